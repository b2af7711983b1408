"""What happens on Ctrl-C and SIGTERM.

Every command says that it was interrupted and exits with 130 (``cli/group``); what it writes is whole or not there
(:mod:`fscs_sdk.atomic`). A folder run first finishes the files that are begun, and the same command goes on from there.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

import click

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


@contextlib.contextmanager
def resumable(context: click.Context) -> Iterator[None]:
    """A run in here is ended by SIGTERM as by Ctrl-C, with exit code 143 or 130 and a word on how it goes on."""
    terminated = False

    def terminate(number: int, frame: object) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("fscs: interrupted; the same command goes on from here", err=True)
        context.exit(EXIT_TERMINATED if terminated else EXIT_INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)
