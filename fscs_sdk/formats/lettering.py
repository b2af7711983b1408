"""Text in pictures: a typeface that has the letters, and lengths that fit."""

from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

#: File names of typefaces with letters that Pillow's own lacks, as common systems have them; the first that has all
#: letters of a text writes it.
FURTHER_TYPEFACES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "segoeui.ttf",
    "msyh.ttc",
    "YuGothR.ttc",
    "malgun.ttf",
    "Nirmala.ttc",
    "arial.ttf",
)
#: Longer texts are cut before they are measured.
LONGEST_TEXT = 300
#: No Unicode character: every typeface answers with its sign for a missing letter.
NO_CHARACTER = "\U0010ffff"


@lru_cache(maxsize=256)
def typeface(size: int, text: str = "") -> Font:
    """The first typeface on this computer that has all letters of a text, else Pillow's own; ``size`` in pixels."""
    letters = frozenset(character for character in text if character.isprintable())
    if all(_has(None, letter) for letter in letters):
        return ImageFont.load_default(size)
    for name in FURTHER_TYPEFACES:
        if _open(name) is not None and all(_has(name, letter) for letter in letters):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def drawable(text: str) -> str:
    """The text as it can be drawn here: letters that no typeface has are spelt out, such as ``\\u732b``."""
    text = "".join(character if character.isprintable() else " " for character in text[:LONGEST_TEXT])
    missing = _missing(text)
    return "".join(ascii(character)[1:-1] if character in missing else character for character in text)


def shorten(text: str, font: Font, width: float) -> str:
    """Shorten a text in its middle until it is no wider than ``width`` pixels."""
    keep, shown = len(text), text
    while font.getlength(shown) > width and keep > 2:
        keep -= 1
        shown = f"{text[: keep - keep // 2]}...{text[len(text) - keep // 2 :]}"
    return shown


def left_to_right(font: Font) -> str | None:
    """The direction to draw in, so that a name in Arabic letters stays before its score; None where it is fixed."""
    complex_layout = isinstance(font, ImageFont.FreeTypeFont) and font.layout_engine == ImageFont.Layout.RAQM
    return "ltr" if complex_layout else None


@lru_cache(maxsize=256)
def _missing(text: str) -> frozenset[str]:
    if any(all(_has(name, letter) for letter in text) for name in (None, *FURTHER_TYPEFACES) if _open(name)):
        return frozenset()
    return frozenset(letter for letter in text if not _has(None, letter))


@lru_cache(maxsize=4096)
def _has(name: str | None, letter: str) -> bool:
    font = _open(name)
    if font is None:
        return False
    shape, missing = font.getmask(letter), font.getmask(NO_CHARACTER)
    return letter == " " or (shape.size, bytes(shape)) != (missing.size, bytes(missing))


@lru_cache(maxsize=32)
def _open(name: str | None) -> Font | None:
    """A typeface at a size good enough to compare letters; None where this computer does not have it."""
    try:
        return ImageFont.load_default(24) if name is None else ImageFont.truetype(name, 24)
    except OSError:
        return None
