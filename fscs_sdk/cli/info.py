"""``fscs info``."""

from typing import Any

import click

from fscs_sdk.environment import OPTIONAL, environment

GIB = 2**30


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Show versions, devices, the cache folder and the models: what a report of a problem should quote.

    Exit code 1 if something is wrong with them. Nothing is downloaded.
    """
    import json

    report = environment()
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _show(report)
    if report["problems"]:
        click.get_current_context().exit(1)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for title, rows in _sections(report):
        console.print(f"[bold]{title}[/]")
        width = max((len(label) for label, _ in rows), default=0)
        for label, text in rows:
            console.print(f"  [cyan]{escape(label.ljust(width))}[/]  {escape(text)}", soft_wrap=True)
        console.print()
    for problem in report["problems"]:
        console.print(f"[bold red]Problem:[/] {escape(problem)}", soft_wrap=True)
    if not report["problems"]:
        console.print("[green]Nothing is wrong.[/]")


def _sections(report: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titles, each with its rows of label and text."""
    missing = "not installed; pip install 'fscs-sdk[formats]'"
    versions = [
        (name, found or (missing if name in OPTIONAL else "missing")) for name, found in report["versions"].items()
    ]
    cpu, cache = report["cpu"], report["cache"]
    machine = [
        ("system", report["system"]),
        ("processor", f"{cpu['model']}, {cpu['cores']} cores"),
        *([("features", " ".join(cpu["features"]))] if cpu["features"] else []),
    ]
    devices = [(device["name"], _device(device)) for device in report["devices"]]
    state = "writable" if cache["writable"] else "not writable"
    cached = [(cache["folder"], f"{state}, {cache['free'] / GIB:.1f} GiB free")]
    return [
        ("Versions", versions),
        ("Machine", machine),
        ("Devices, the one that auto takes first", devices),
        ("Cache of downloaded weights", cached),
        ("Models", list(report["models"].items())),
    ]


def _device(device: dict[str, Any]) -> str:
    if device["name"] == "cpu":
        threads = device["threads"]
        return f"{threads} thread{'s' if threads != 1 else ''}, {device['kernels']} kernels"
    memory = f", {device['memory'] / GIB:.1f} GiB" if "memory" in device else ""
    return f"{device['model']}{memory}"
