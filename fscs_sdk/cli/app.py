"""``fscs app``."""

import os
import sys
from pathlib import Path

import click

from fscs_sdk.cli.options import misuse, model_options, one_line

DEFAULT_PORT = 8765
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.argument("workspace", metavar="WORKSPACE", type=click.Path(path_type=Path))
@click.option("--photos", metavar="DIR", type=click.Path(path_type=Path), help="A folder to pick photos from.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; see below.")
@click.option(
    "--port", default=None, type=click.IntRange(0, 65535), help=f"[default: the first free one from {DEFAULT_PORT}]"
)
@click.option("--token", default=None, help="Key that the address ends in.  [default: the workspace's own]")
@click.option("--label-studio", metavar="URL", default=None, help="Fetch photos of its tasks from this Label Studio.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in the browser.")
@model_options
def app(
    workspace: Path,
    photos: Path | None,
    host: str,
    port: int | None,
    token: str | None,
    label_studio: str | None,
    browser: bool,
    model: str,
    device: str,
    dtype: str,
) -> None:
    """Open a page in the browser: mark photos, ask others, correct, and take the result along.

    WORKSPACE is a folder that keeps everything; it is made if it is not there. Its supports/ and queries/ are what
    'fscs predict' reads.

    The page is for this machine alone, and only for those who know its address. With --host 0.0.0.0 everyone in the
    network who knows the --token can see and change the photos, over connections that are not encrypted.
    """
    try:
        from fscs_sdk.app.events import Events
        from fscs_sdk.app.server import Server, address, bind, make_app, workspace_at
    except ImportError as error:
        if error.name not in ("starlette", "uvicorn", "anyio"):
            raise
        raise click.ClickException(
            "the page needs two more packages; install them: pip install 'fscs-sdk[app]'"
        ) from None
    from fscs_sdk.cli.options import load_segmenter
    from fscs_sdk.cli.remarks import remarks_told
    from fscs_sdk.locks import locked_folder

    if host not in LOOPBACK and token is None:
        raise click.UsageError(
            f"--host {host} lets other machines in; say with --token which key they need, 16 characters or more, and "
            "mind that the connection is not encrypted"
        )
    if token is not None and len(token) < 16:
        raise click.UsageError(f"the token has {len(token)} characters; take 16 or more, so that no one guesses it")
    with misuse():
        opened = workspace_at(workspace, photos=photos)
    with locked_folder(opened.root):
        segmenter = load_segmenter(model, device, dtype)
        listener = bind(host, DEFAULT_PORT if port is None else port, tries=1 if port is not None else 20)
        token = token or opened.token()
        taken = listener.getsockname()[1]
        events = Events()
        given = {"model": (model, "asnet-mini"), "device": (device, "auto"), "dtype": (dtype, "auto")}
        chosen = {option: value for option, (value, default) in given.items() if value != default}
        served = make_app(
            opened,
            segmenter,
            events,
            model=chosen,
            token=token,
            port=taken,
            exposed=host not in LOOPBACK,
            studio=label_studio,
        )
        link = address(host, taken, token)

        def ready() -> None:
            click.echo(f"Workspace: {one_line(str(opened.root))}")
            click.echo(f"Open this page, which only this address opens: {link}")
            click.echo("Ctrl-C ends it; everything is saved as it happens.")
            screen = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
            if browser and screen:  # without one, launchers complain at length, or a text browser takes the terminal
                click.launch(link)

        with remarks_told():
            Server(served, events, ready=ready).run(sockets=[listener])
