"""Presence as a table: one row for each photo and class."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path

from fscs_sdk.prediction import Prediction

COLUMNS = ("photo", "class", "present", "score", "pixels")


def encode(prediction: Prediction, *, photo: str) -> dict[str, bytes]:
    """``.csv``, UTF-8 with a header: photo, class, present (true or false), score (in full), pixels in the mask.

    Bytes of a name that are not Unicode are written as ``\\udc80`` and the like.
    """
    rows = [
        (photo, one["name"], str(one["present"]).lower(), repr(one["score"]), one["pixels"])
        for one in prediction.to_dict()["classes"]
    ]
    return {".csv": _write(rows)}


def collect(files: Mapping[str, Path], *, names: Sequence[str]) -> dict[str, bytes]:
    """``presence.csv``: the rows of all photos.

    Raises:
        ValueError: a file is damaged or was written for other classes.
        OSError: a file is missing.
    """
    rows = []
    for photo, path in files.items():
        try:
            header, *lines = csv.reader(StringIO(path.read_bytes().decode(), newline=""))
        except (ValueError, csv.Error):
            raise ValueError(f"'{path}' is not a table of presence; delete it and run again") from None
        if tuple(header) != COLUMNS or [line[1:2] for line in lines] != [[_writable(name)] for name in names]:
            raise ValueError(f"'{path}' is no table of presence of {list(names)}; delete it and run again")
        rows += [(photo, *line[1:]) for line in lines]
    return {"presence.csv": _write(rows)}


def _write(rows: Iterable[Sequence[object]]) -> bytes:
    buffer = StringIO(newline="")
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(rows)
    return _writable(buffer.getvalue()).encode()


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
