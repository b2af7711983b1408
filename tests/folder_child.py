"""Runs ``predict_folder`` with the stub model in a process that a test stops: INPUT OUT PAUSE [FORMAT...].

It prints the path of every photo when its line is in the journal.
"""

import signal
import sys

from fscs_sdk.folder import predict_folder
from stub_model import StubModel, StubSupports

signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent that ignores Ctrl-C hands that on
_, folder, out, pause, *formats = sys.argv
predict_folder(
    StubModel(pause=float(pause)),
    folder,
    StubSupports(),
    out,
    formats=formats,
    progress=lambda done, total, record: record and sys.stdout.write(f"{record.path}\n") and sys.stdout.flush(),
)
