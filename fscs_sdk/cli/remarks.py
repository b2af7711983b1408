"""What is odd about photos that are answered, told on the terminal while the answers go on."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import TextIO

import click

from fscs_sdk.cli.options import one_line
from fscs_sdk.spelling import counted

#: Remarks that are told in full; the rest is counted.
SHOWN = 10


@contextlib.contextmanager
def remarks_told() -> Iterator[None]:
    """Remarks on photos, from any thread, are told once each; what decoders warn of is not."""
    from fscs_sdk.images import ImageWarning

    told: set[str] = set()

    def tell(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if str(message) not in told and len(told) < SHOWN:
            click.echo(f"fscs: warning: {one_line(str(message))}", err=True)
        told.add(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ImageWarning)
        warnings.showwarning = tell  # for all threads
        yield
    if len(told) > SHOWN:
        click.echo(f"fscs: {counted(len(told) - SHOWN, 'more warning')} of photos", err=True)
