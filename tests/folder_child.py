"""Runs ``predict_folder`` with the stub model in a process that a test kills: INPUT OUT [FORMAT...]."""

import signal
import sys

from fscs_sdk.folder import Settings, predict_folder
from stub_model import StubModel, StubSupports

signal.signal(signal.SIGTERM, signal.default_int_handler)
_, folder, out, *formats = sys.argv
predict_folder(
    StubModel(),
    [folder],
    StubSupports(),
    out,
    settings=Settings(tuple(formats) or ("mask",)),
    advance=lambda entry: print(entry.place, flush=True),  # noqa: T201 (what the test waits for)
)
