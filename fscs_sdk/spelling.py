"""Names and numbers as people see them."""

import unicodedata
from collections.abc import Iterable


def name_key(name: str) -> str:
    """What two names share that look alike: upper and lower case are one, and so are all ways to write an accent.

    File systems and keyboards differ in both: ``é`` is one character here, a letter and an accent there (Unicode's NFC
    and NFD). This is Unicode's canonical caseless matching, for classes and for files alike.
    """
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def find_name(name: str, names: Iterable[str]) -> str | None:
    """``name`` itself, or the first of ``names`` that looks like it, or None; spaces around it do not count."""
    there, key = list(names), name_key(name.strip())
    return name if name in there else next((other for other in there if name_key(other.strip()) == key), None)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``1 photo``, ``2 photos``; the plural where it is not the noun and an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
