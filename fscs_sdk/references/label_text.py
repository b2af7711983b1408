"""Annotation files as text: read, decoded, and refused in one sentence."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fscs_sdk.references.shapes import EmptyShapeError


def read_text(path: Path) -> str:
    """A file's text, UTF-8 or UTF-16 with its mark.

    Raises:
        ValueError: it is no text.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"'{path}' is not text in UTF-8; save it again as UTF-8") from None


def read_json(path: Path) -> Any:
    """The value that a JSON file holds; ValueError where it is damaged, OSError where it cannot be read."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"'{path}' is not whole JSON (line {error.lineno}: {error.msg}); export it again") from None
    except RecursionError:
        raise ValueError(f"'{path}' is nested too deeply to be annotations; export it again") from None


@contextlib.contextmanager
def reading(what: str, kind: str, left_out: list[str] | None = None) -> Iterator[None]:
    """Whatever is missing or of another type in ``what`` becomes one sentence: it is no good ``kind``.

    Args:
        left_out: where shapes without an inside are noted; tools write some by accident, and the rest counts.
    """
    try:
        yield
    except EmptyShapeError as error:
        if left_out is None:
            raise AnnotationError(f"{what}: {error}; draw it again") from None
        left_out.append(f"{what}: {error}")
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError, ArithmeticError, ValueError) as error:
        if isinstance(error, AnnotationError):
            raise
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise AnnotationError(f"{what} is not {kind} as it should be ({reason}); export it again") from None


class AnnotationError(ValueError):
    """An annotation file that its reader cannot follow; the message names file, place and cure."""
