"""What a file is, by its first bytes, and the Pillow decoder for it; the ending of its name says nothing."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from fscs_sdk.images.errors import ImageError
from fscs_sdk.images.tiff import is_raw

# Only formats with a signature and a decoder inside Pillow: EPS would start Ghostscript, TGA would claim any bytes.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "HEIF")
#: Brands of HEIF files, the photos of phones; ``mif1`` may be AVIF, which is asked first.
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
#: How raw photos begin that are no TIFF files: Fujifilm, Panasonic and Leica, Olympus, Sigma, Minolta, Canon.
_RAW = (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")

#: How files of ``numpy.save`` begin.
_NUMPY = b"\x93NUMPY"


def identify(stream: BinaryIO, name: str) -> Image.Image:
    """The image in a file: header read, pixels not yet decoded.

    Not `Image.open`: that checks Pillow's own pixel limit, a global, and warns in its own words; here the caller's
    ``max_pixels`` is the limit.

    Raises:
        ImageError: there is no decoder for it; the message says what it is, as far as that is known.
    """
    Image.init()
    prefix = stream.read(16)
    stream.seek(0)
    if not prefix:
        raise ImageError(f"{name} is empty (0 bytes): save or copy it again")
    if prefix.startswith(_RAW) or prefix[4:11] == b"ftypcrx" or is_raw(stream, prefix):
        raise ImageError(
            f"{name} is a camera's raw photo, of which only a preview could be read: develop it to JPEG or TIFF first"
        )
    if prefix.startswith(_NUMPY):
        raise ImageError(f"{name} is a file of NumPy: pass the array in it, numpy.load(...), or save it as PNG")
    for file_format in _FORMATS:
        factory, accepts = Image.OPEN.get(file_format, (None, None))
        if factory is not None and accepts is not None and accepts(prefix) is True:
            return factory(stream, "")
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS:
        return _heif(stream, name)
    raise ImageError(f"{name} is not an image in a format that can be read here: convert it to PNG or JPEG")


def _heif(stream: BinaryIO, name: str) -> Image.Image:
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(
            f"{name} is a HEIC photo, which needs one more package: pip install 'fscs-sdk[heic]', or convert it to JPEG"
        ) from None
    pillow_heif.register_heif_opener()
    factory, _ = Image.OPEN["HEIF"]
    return factory(stream, "")
