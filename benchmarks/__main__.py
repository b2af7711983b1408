"""``python -m benchmarks``: speed of the shipped path against the naive loop, in one run."""

import json
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.cost import curves, draw
from benchmarks.measure import (
    SHIPPED,
    Model,
    agreement,
    first_answer,
    measure,
    peak_memory,
    profile,
    shipped_rates,
    stages,
    stream_rates,
)
from benchmarks.roofline import copy_rate, product_rate
from benchmarks.workloads import WORKLOADS
from fscs_sdk.segmenter import FewShotSegmenter


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="One repeat, two for up to five pairs: within ten minutes on two cores.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--workload", "names", multiple=True, type=click.Choice(list(WORKLOADS)), help="Only these.")
@click.option("--dtype", "dtypes", multiple=True, default=("float32", "auto"), show_default=True)
@click.option("--backbone", default="resnet50", show_default=True)
@click.option("--side", default=400, show_default=True, help="Input side in pixels.")
@click.option("--device", default="auto", show_default=True)
@click.option("--threads", type=int, help="CPU threads; PyTorch's own choice if not given.")
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="For the agreement.")
@click.option(
    "--curves",
    "curve_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Instead of all that, draw the cost over N, K and input side as a PNG.",
)
@click.option("--profile", "profiled", type=click.Choice(list(WORKLOADS)), help="Instead, what one query spends where.")
def main(
    quick: bool,
    as_json: bool,
    names: tuple[str, ...],
    dtypes: tuple[str, ...],
    backbone: str,
    side: int,
    device: str,
    threads: int | None,
    photos: Path | None,
    curve_file: Path | None,
    profiled: str | None,
) -> None:
    """Time the shipped path against a plain version of the authors' loop, workload by workload."""
    if threads:
        torch.set_num_threads(threads)
    chosen = FewShotSegmenter.from_pretrained(device=device).device
    model = Model(backbone, side, str(chosen))
    repeats, most_photos = (2, 50) if quick else (5, 200)
    if curve_file:
        found = curves(model, dtypes[0], repeats=repeats)
        draw(found, f"ASNet on {backbone}, {side} px, {dtypes[0]}, {_processor_of(chosen)}", curve_file)
        click.echo(json.dumps(found, indent=2) if as_json else f"{curve_file} is drawn")
        return
    if profiled:
        rows = profile(WORKLOADS[profiled], model, dtypes[-1])
        click.echo(
            json.dumps(rows, indent=2)
            if as_json
            else "\n".join(f"{row['ms']:9.3f} ms  {row['calls']:5}  {row['name']}" for row in rows)
        )
        return
    report: dict[str, Any] = {"machine": machine(chosen)}
    for name in names or WORKLOADS:
        click.echo(f"{name}: {WORKLOADS[name].what} ...", err=True)
        pairs = WORKLOADS[name].ways * WORKLOADS[name].shots
        report[name] = measure(WORKLOADS[name], model, dtypes, repeats=1 if quick and pairs > 5 else repeats)
        if chosen.type == "cpu":
            naive = peak_memory(WORKLOADS[name], model, "naive")
            for dtype in dtypes:
                report[name][dtype]["peak_bytes"] = peak_memory(WORKLOADS[name], model, dtype)
                report[name][dtype]["naive_peak_bytes"] = naive
    click.echo("stages, models that ship, agreement ...", err=True)
    report["stages"] = {dtype: stages(WORKLOADS["W2"], model, dtype, repeats=repeats) for dtype in dtypes}
    report["shipped"] = {dtype: {"queries_per_s": shipped_rates(model.device, dtype)} for dtype in dtypes}
    report["streamed"] = {dtype: {"queries_per_s": stream_rates(model.device, dtype)} for dtype in dtypes}
    report["first_answer_s"] = first_answer()
    files = sorted(path for path in photos.iterdir() if path.suffix == ".jpg")[:most_photos] if photos else []
    report["agreement"] = {dtype: agreement(files, model.device, dtype) for dtype in dtypes if dtype != "float32"}
    click.echo(json.dumps(report, indent=2)) if as_json else show(report, dtypes)


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "date": date.today().isoformat(),
        "device": str(device),
        "processor": _processor_of(device),
        "instructions": capability,
        "amx": torch.cpu._is_amx_tile_supported(),
        "bfloat16_in_hardware": torch.cpu._is_avx512_bf16_supported(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "float32_gigaflop_per_s": product_rate(torch.float32, device) / 1e9,
        "bfloat16_gigaflop_per_s": product_rate(torch.bfloat16, device) / 1e9,
        "copy_gigabyte_per_s": copy_rate(device) / 1e9,
    }


def _processor_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def show(report: dict[str, Any], dtypes: tuple[str, ...]) -> None:
    """The report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(130, Console().width))  # a cut figure is no figure
    console.print(", ".join(f"{key} {_number(value)}" for key, value in report["machine"].items()))
    table = Table("", "dtype", "queries/s", "ms", "naive ms", "speedup", "of roofline", "memory", "photos", "max diff")
    for name in (name for name in WORKLOADS if name in report):
        for dtype in dtypes:
            found = report[name][dtype]
            low, high = found["speedup_range"]
            memory = f"{found['peak_bytes'] / found['naive_peak_bytes']:.2f}" if "peak_bytes" in found else "-"
            table.add_row(
                name,
                f"{dtype} ({found['dtype']})",
                f"{found['queries_per_s']:.2f}",
                f"{found['milliseconds']:.0f}",
                f"{found['naive_milliseconds']:.0f}",
                f"{found['speedup']:.1f} ({low:.1f}-{high:.1f})",
                f"{100 * found['share_of_roofline']:.0f} %",
                memory,
                f"{found['backbone_photos']} / {found['naive_backbone_photos']}",
                f"{found['largest_map_difference']:.1e}" + ("" if found["same_presence"] else " presence!"),
            )
    console.print(table)
    console.print("memory: peak beyond the loaded network, a share of the naive loop's. photos: through the backbone.")
    for dtype in dtypes:
        console.print(
            f"W2 stages, {dtype}: " + ", ".join(f"{k} {v:.0f} ms" for k, v in report["stages"][dtype].items())
        )
        rates = report["shipped"][dtype]["queries_per_s"]
        console.print(
            f"{dtype}, 1-way 1-shot: "
            + ", ".join(f"{name} {rate:.1f} queries/s" for name, rate in rates.items())
            + "; streamed "
            + ", ".join(f"{name} {rate:.1f}" for name, rate in report["streamed"][dtype]["queries_per_s"].items())
            + f"; {SHIPPED[-1]} costs {rates[SHIPPED[0]] / rates[SHIPPED[-1]]:.1f} times as much as {SHIPPED[0]}"
        )
    console.print(f"load and first answer: {report['first_answer_s']:.1f} s")
    for dtype, found in report["agreement"].items():
        console.print(
            f"{dtype} against float32, asnet-mini: " + ", ".join(f"{k} {_number(v)}" for k, v in found.items())
        )


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
