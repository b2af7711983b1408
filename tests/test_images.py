import contextlib
import io
import os
import pathlib
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
import torch
import torchvision.transforms
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fscs_sdk import images
from fscs_sdk.images import ImageError, ImageWarning, close_up, read_image, read_mask, resize_image, resize_mask

quick = settings(max_examples=60, deadline=None, database=None)
fuzz = settings(
    max_examples=400, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(images.MIN_SIDE, 40)

# What Pillow must do to the stored pixels of each EXIF orientation, said in numpy instead.
TURN_UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def noise(seed, *shape, dtype=np.uint8, high=None):
    high = np.iinfo(dtype).max if high is None else high
    return np.random.default_rng(seed).integers(0, high, shape, dtype=dtype, endpoint=True)


def encode(image, file_format, **options):
    stream = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(stream, file_format, **options)
    return stream.getvalue()


def orientation_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png(chunks):
    """A PNG from its chunks, for what Pillow cannot write."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in chunks:
        parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts)


def png_header(width, height, bits=8, colour=2):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)


def rows_of(array):
    raw = array.astype(array.dtype.newbyteorder(">"))
    return b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in raw))


def over_white(rgba):
    colour, alpha = rgba[..., :3].astype(np.int64), rgba[..., 3:].astype(np.int64)
    return ((2 * (colour * alpha + 255 * (255 - alpha)) + 255) // 510).astype(np.uint8)


def a_blob(height=60, width=80):
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 4 : width // 2] = True
    return mask


# ----------------------------------------------------------------------------------------------------- doors agree


PLAIN_FILES = [
    ("RGB", "PNG", {}),
    ("RGB", "JPEG", {"quality": 70}),
    ("RGB", "JPEG", {"progressive": True, "subsampling": 2}),
    ("L", "JPEG", {}),
    ("CMYK", "JPEG", {}),
    ("RGB", "WEBP", {"lossless": True}),
    ("RGBA", "WEBP", {"quality": 50}),
    ("RGB", "BMP", {}),
    ("RGB", "PPM", {}),
    ("L", "PPM", {}),
    ("RGB", "JPEG2000", {}),
    ("RGB", "TIFF", {}),
    ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("YCbCr", "TIFF", {}),
    ("CMYK", "TIFF", {}),
    ("LA", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("RGBA", "TIFF", {}),
    ("P", "PNG", {}),
    ("P", "PNG", {"transparency": 3}),
    ("P", "PNG", {"transparency": bytes(range(200))}),
    ("P", "GIF", {"transparency": 7}),
    ("P", "TIFF", {}),
    ("L", "PNG", {"transparency": 100}),
    ("L", "GIF", {}),
    ("1", "PNG", {}),
    ("1", "TIFF", {}),
    ("1", "BMP", {}),
    ("I;16", "PNG", {}),
    ("I;16", "TIFF", {}),
    ("I;16B", "TIFF", {}),
]


def photo_in_mode(mode, seed, height, width):
    if mode == "I;16":
        return Image.fromarray(noise(seed, height, width, dtype=np.uint16))
    if mode == "I;16B":
        raw = noise(seed, height, width, dtype=np.uint16).astype(">u2").tobytes()
        return Image.frombytes("I;16B", (width, height), raw)
    if mode == "P":
        image = Image.fromarray(noise(seed, height, width)).convert("P")
        image.putpalette(noise(seed + 1, 768).tobytes())
        return image
    return Image.fromarray(noise(seed, height, width, 4)).convert(mode)


@pytest.mark.parametrize(("mode", "file_format", "options"), PLAIN_FILES)
@given(seed=seeds, height=sides, width=sides)
@settings(max_examples=6, deadline=None, database=None)
def test_every_door_gives_the_same_photo(tmp_path_factory, mode, file_format, options, seed, height, width):
    content = encode(photo_in_mode(mode, seed, height, width), file_format, **options)
    path = tmp_path_factory.getbasetemp() / "photo.bin"  # the extension must not matter
    path.write_bytes(content)
    photo = read_image(path)
    assert photo.shape == (height, width, 3)
    assert photo.dtype == np.uint8
    assert photo.flags.writeable
    assert photo.flags.c_contiguous
    assert photo.flags.owndata
    opened = Image.open(io.BytesIO(content))
    stream = io.BytesIO(b"before" + content)
    stream.seek(6)
    doors = [str(path), content, bytearray(content), memoryview(content), stream, opened, photo]
    doors.append(torch.from_numpy(photo).permute(2, 0, 1))
    doors.append(torch.from_numpy(photo).permute(2, 0, 1).to(torch.float32) / 255)
    doors.append(photo.astype(np.float64) / 255)
    doors.append(photo.astype(np.uint16) * 257)
    for door in doors:
        np.testing.assert_array_equal(read_image(door), photo)
    assert not stream.closed
    assert not opened.has_transparency_data or opened.mode != "RGB"
    np.testing.assert_array_equal(read_image(opened), photo)  # a second look at the same image


def test_an_avif_photo():
    if "AVIF" not in Image.SAVE:
        pytest.skip("Pillow without AVIF")
    content = encode(np.full((20, 30, 3), (200, 30, 90), np.uint8), "AVIF", quality=95)
    assert np.abs(read_image(content).astype(int) - (200, 30, 90)).max() < 8


@quick
@given(seed=seeds, height=sides, width=sides)
def test_pixels_are_those_that_went_in(seed, height, width):
    photo = noise(seed, height, width, 3)
    grey = photo[:, :, 0]
    threefold = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(read_image(photo), photo)
    np.testing.assert_array_equal(read_image(encode(photo, "PNG")), photo)
    np.testing.assert_array_equal(read_image(photo[::-1, ::-1]), photo[::-1, ::-1])
    np.testing.assert_array_equal(read_image(np.asfortranarray(photo)), photo)
    np.testing.assert_array_equal(read_image(encode(grey, "PNG")), threefold)
    for door in (grey, grey[:, :, None], torch.from_numpy(grey)[None]):
        np.testing.assert_array_equal(read_image(door), threefold)
    assert read_image(photo[::-1, ::-1]).flags.c_contiguous


def test_known_colours_of_the_unusual_modes():
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    cases = {
        "CMYK JPEG, which Adobe stores inverted": encode(
            Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95
        ),
        "YCbCr": red.convert("YCbCr"),
        "HSV": red.convert("HSV"),
        "RGBX": red.convert("RGBX"),
        "YCbCr TIFF": encode(red.convert("YCbCr"), "TIFF"),
    }
    for name, source in cases.items():
        assert np.abs(read_image(source).astype(int) - (255, 0, 0)).max() <= 3, name
    halves = Image.new("1", (16, 16), 1)
    halves.paste(0, (0, 0, 8, 16))
    assert (read_image(encode(halves, "PNG"))[0, 7:9] == [[0] * 3, [255] * 3]).all()


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_animations_and_pages(file_format):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(content)).n_frames == 3
    with pytest.warns(ImageWarning, match="query 3 holds several pictures"):
        assert (read_image(content, label="query 3") == (255, 0, 0)).all()
    opened = Image.open(io.BytesIO(content))
    assert (read_image(opened) == (255, 0, 0)).all()
    opened.seek(1)
    assert (read_image(opened) == (0, 255, 0)).all()


# ----------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_orientation_of_photo_and_mask(orientation, file_format):
    stored = noise(orientation, 24, 40, 3)
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encode(stored, file_format, exif=orientation_exif(orientation), **options)
    if file_format == "JPEG":
        stored = np.array(Image.open(io.BytesIO(content)))
    upright = TURN_UPRIGHT[orientation](stored)
    opened = Image.open(io.BytesIO(content))
    for door in (content, io.BytesIO(content), opened, opened):  # not turned twice at the second look
        np.testing.assert_array_equal(read_image(door), upright)

    stored_mask = np.zeros((24, 40), np.uint8)
    stored_mask[2:10, 3:20] = 255
    stored_mask[0:4, 30:40] = 255
    options["quality"] = 100
    content = encode(stored_mask, file_format, exif=orientation_exif(orientation), **options)
    expected = TURN_UPRIGHT[orientation](stored_mask > 0)
    for door in (content, Image.open(io.BytesIO(content))):
        mask = read_mask(door, size=expected.shape)
        assert (mask != expected).mean() < (0.05 if file_format == "JPEG" else 1e-9)


@pytest.mark.parametrize("dtype", ["I;16", "1", "P", "RGBA"])
def test_orientation_in_every_mode(dtype):
    stored = photo_in_mode(dtype, 3, 12, 20)
    plain = read_image(encode(stored, "PNG"))
    turned = read_image(encode(stored, "PNG", exif=orientation_exif(6)))
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


@pytest.mark.parametrize("broken", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_a_broken_exif_block_does_not_cost_the_photo(broken):
    photo = noise(0, 16, 24, 3)
    content = encode(photo, "PNG", exif=broken)
    np.testing.assert_array_equal(read_image(content), photo)


def test_an_unknown_orientation_is_as_stored():
    photo = noise(0, 16, 24, 3)
    np.testing.assert_array_equal(read_image(encode(photo, "PNG", exif=orientation_exif(9))), photo)


# -------------------------------------------------------------------------------------------------- alpha, 16 bit


@quick
@given(seed=seeds, height=sides, width=sides)
def test_alpha_is_laid_over_white(seed, height, width):
    rgba = noise(seed, height, width, 4)
    expected = over_white(rgba)
    doors = [rgba, encode(rgba, "PNG"), Image.fromarray(rgba), rgba.astype(np.uint16) * 257, rgba / 255.0]
    doors.append(torch.from_numpy(rgba).permute(2, 0, 1))
    doors.append(encode(rgba, "TIFF"))
    for door in doors:
        np.testing.assert_array_equal(read_image(door), expected)
    grey_alpha = Image.merge("LA", Image.fromarray(rgba).split()[2:])
    flat = over_white(rgba[..., [2, 2, 2, 3]])
    np.testing.assert_array_equal(read_image(grey_alpha), flat)
    np.testing.assert_array_equal(read_image(encode(grey_alpha, "PNG")), flat)
    if (rgba[..., 3] == 255).all():
        np.testing.assert_array_equal(expected, rgba[..., :3])


def test_transparency_of_palette_grey_and_colour_keys():
    indices = noise(0, 16, 16, high=3)
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 8, 7]], np.uint8)
    alphas = np.array([0, 128, 255, 40], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(palette.tobytes())
    expected = over_white(np.dstack([palette[indices], alphas[indices]]))
    np.testing.assert_array_equal(read_image(encode(image, "PNG", transparency=alphas.tobytes())), expected)
    image.info["transparency"] = 1
    expected = over_white(np.dstack([palette[indices], np.where(indices == 1, 0, 255).astype(np.uint8)]))
    np.testing.assert_array_equal(read_image(image), expected)

    colours = palette[indices]
    keyed = np.where((indices == 2)[:, :, None], 255, colours)
    np.testing.assert_array_equal(read_image(encode(colours, "PNG", transparency=(0, 255, 0))), keyed)
    grey = noise(1, 16, 16, high=4)
    keyed = np.where(grey == 4, 255, grey)
    np.testing.assert_array_equal(read_image(encode(grey, "PNG", transparency=4))[:, :, 1], keyed)

    pa = Image.fromarray(indices).convert("P")
    pa.putpalette(palette.tobytes())
    pa = pa.convert("PA")
    np.testing.assert_array_equal(read_image(pa), colours)
    premultiplied = Image.fromarray(np.dstack([colours, alphas[indices]])).convert("RGBa")
    np.testing.assert_array_equal(read_image(premultiplied), read_image(premultiplied.convert("RGBA")))
    grey_premultiplied = Image.merge("LA", [Image.new("L", (16, 16), 100), Image.new("L", (16, 16), 40)]).convert("La")
    expected = read_image(grey_premultiplied.convert("LA"))
    assert expected[0, 0, 0] > 200
    np.testing.assert_array_equal(read_image(grey_premultiplied), expected)


def test_colour_key_of_a_16_bit_png():
    wide = np.full((10, 12, 3), 0x1234, np.uint16)
    wide[:, 6:] = 0x8412
    key = (b"tRNS", struct.pack(">HHH", 0x1234, 0x1234, 0x1234))
    content = png([png_header(12, 10, 16, 2), key, rows_of(wide), (b"IEND", b"")])
    photo = read_image(content)
    assert (photo[:, :6] == 255).all()
    assert (photo[:, 6:] == 0x84).all()
    opened = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(read_image(opened), photo)
    assert opened.info["transparency"] == (0x1234,) * 3
    grey = png([png_header(12, 10, 16, 0), (b"tRNS", struct.pack(">H", 0x1234)), rows_of(wide[..., 0]), (b"IEND", b"")])
    photo = read_image(grey)
    assert (photo[:, :6] == 255).all()
    assert (photo[:, 6:] == round(0x8412 / 257)).all()


def test_16_bit_grey_is_rounded_everywhere():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(every / 257.0).astype(np.uint8)
    doors = [every, every[:, :, None], every.astype(">u2"), encode(every, "PNG"), encode(every, "TIFF")]
    doors += [Image.fromarray(every), Image.fromarray(every.astype(np.int32))]
    doors.append(Image.frombytes("I;16B", (256, 256), every.astype(">u2").tobytes()))
    doors.append(torch.from_numpy(every)[None])
    for door in doors:
        photo = read_image(door)
        np.testing.assert_array_equal(photo, np.repeat(expected[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(read_image(every[::-1, ::2])[..., 0], expected[::-1, ::2])
    colour = np.dstack([every, every.T, every[::-1]])
    np.testing.assert_array_equal(read_image(colour), np.rint(colour / 257.0).astype(np.uint8))
    rgb16 = png([png_header(256, 256, 16, 2), rows_of(colour), (b"IEND", b"")])
    assert np.abs(read_image(rgb16).astype(int) - colour / 257.0).max() <= 1


@quick
@given(seed=seeds, dtype=st.sampled_from([np.float16, np.float32, np.float64, ">f4"]), channels=st.sampled_from([1, 3]))
def test_floats_are_rounded(seed, dtype, channels):
    values = np.random.default_rng(seed).random((9, 11, channels)).astype(dtype)
    expected = np.broadcast_to(np.rint(values.astype(np.float64) * 255), (9, 11, 3))
    photo = read_image(values)
    assert np.abs(photo - expected).max() <= (1 if np.dtype(dtype).itemsize < 8 else 0)
    tensor = torch.from_numpy(values.astype(np.dtype(dtype).newbyteorder("="))).permute(2, 0, 1)
    np.testing.assert_array_equal(read_image(tensor.requires_grad_()), photo)


def test_float_extremes_and_low_precision_tensors():
    edge = np.zeros((8, 8), np.float32)
    edge[0] = 1.0000001
    assert set(read_image(edge).ravel().tolist()) == {0, 255}
    assert (read_image(Image.fromarray(np.full((8, 8), 0.5, np.float32))) == 128).all()
    assert (read_image(torch.full((3, 8, 8), 0.5, dtype=torch.bfloat16)) == 128).all()


# ------------------------------------------------------------------------------------ depth, planes, what is told


def told(source, **options):
    """A photo, and what was told of it."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        photo = read_image(source, label="query 3", **options)
    assert all((warning.category, warning.filename) == (ImageWarning, __file__) for warning in noted)
    return photo, [str(warning.message) for warning in noted]


def tiff(array, **options):
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def a_gradient(height=48, width=64):
    """Smooth, colourful, and from 0 to 255 in every channel."""
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)[None]
    return np.rint(np.stack(np.broadcast_arrays(rows, columns, (rows + columns) / 2), axis=2)).astype(np.uint8)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_cameras_bits_in_wider_values(bits):
    grey = a_gradient()[..., 1]
    deep = np.rint(grey / 255 * (2**bits - 1)).astype(np.uint16)
    doors = [deep, deep[..., None], torch.from_numpy(deep)[None], np.dstack([deep] * 3), Image.fromarray(deep)]
    doors += [encode(deep, "PNG"), encode(deep, "TIFF"), Image.fromarray(deep.astype(np.int32))]
    doors.append(tiff(2**bits - 1 - deep, photometric="miniswhite"))
    doors.append(np.dstack([deep] * 3 + [np.full_like(deep, 65535)]))
    doors.append(np.dstack([deep] * 3 + [np.full_like(deep, 2**bits - 1)]))
    for door in doors:
        photo, said = told(door)
        assert np.abs(photo - grey[..., None].astype(int)).max() <= 1
        assert len(said) == (bits < 16)
        assert all(
            f"query 3 holds values up to {2**bits - 1} in wider integers, so it is read as {bits} bits" in text
            for text in said
        )
    stated = [(281, "H", 1, 2**bits - 1, True)] if bits > 8 else []
    if stated:
        photo, said = told(tiff(deep, photometric="minisblack", extratags=stated))
        assert said == []  # the file says it
        assert np.abs(photo - grey[..., None].astype(int)).max() <= 1


def test_a_dark_photo_of_16_bits_that_says_so_stays_dark():
    deep = a_gradient()[..., 1].astype(np.uint16) * 32
    photo, said = told(tiff(deep, photometric="minisblack", extratags=[(281, "H", 1, 65535, True)]))
    assert (photo.max(), said) == (32, [])


def test_a_dark_photo_of_16_bits_a_colour_is_told():
    deep = a_gradient().astype(np.uint16) * 16  # 12 bits
    for door in (
        png([png_header(64, 48, 16, 2), rows_of(deep.reshape(48, -1)), (b"IEND", b"")]),
        tiff(deep, photometric="rgb"),
        tiff(np.ascontiguousarray(np.moveaxis(deep, 2, 0)), photometric="rgb", planarconfig="separate"),
    ):
        photo, said = told(door)
        assert photo.max() == 15
        assert said == ["query 3 holds small values in 16 bits, so it comes out dark: scale its values to 8 bits"]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["rgb", "planes", "grey", "white is 0"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiffs_of_every_order(byteorder, compression, kind, dtype):
    photo = a_gradient()
    options = {"byteorder": byteorder, "compression": compression}
    if kind in ("rgb", "planes"):
        values = np.moveaxis(photo, 2, 0) if kind == "planes" else photo
        options |= {"photometric": "rgb", "planarconfig": "separate" if kind == "planes" else "contig"}
    else:
        values = photo[..., 0] if kind == "grey" else 255 - photo[..., 0]
        options["photometric"] = "minisblack" if kind == "grey" else "miniswhite"
        photo = np.dstack([photo[..., 0]] * 3)
    values = {"uint8": values, "uint16": values.astype(np.uint16) * 257, "float32": np.float32(values / 255)}[dtype]
    content = tiff(np.ascontiguousarray(values), **options)
    if (dtype == "float32" and kind in ("rgb", "planes")) or (dtype, kind, byteorder) == ("uint16", "white is 0", ">"):
        refused(content, "cannot be decoded", "PNG")
    else:
        np.testing.assert_array_equal(read_image(content), photo)


def test_further_layouts_of_tiff():
    photo = a_gradient()
    planes = np.ascontiguousarray(np.moveaxis(photo, 2, 0))
    for content in (
        tiff(photo, photometric="rgb", tile=(16, 16)),
        tiff(planes, photometric="rgb", planarconfig="separate", tile=(16, 16)),
        tiff(planes.astype(np.uint16) * 257, photometric="rgb", planarconfig="separate", tile=(16, 16)),
        tiff(planes, photometric="rgb", planarconfig="separate", compression="zlib", predictor=True),
        tiff(photo, photometric="rgb", bigtiff=True),
        tiff(np.dstack([photo, photo[..., 0]]), photometric="rgb", extrasamples=["unspecified"]),
        tiff(np.dstack([255 - photo, np.zeros_like(photo[..., :1])]), photometric="separated"),
    ):
        np.testing.assert_array_equal(read_image(content), photo)


def test_a_photo_that_shows_nothing_is_told():
    for level, word in ((0, "black"), (16, "black"), (255, "white"), (239, "white")):
        for door in (np.full((60, 80, 3), level, np.uint8), encode(np.full((60, 80), level, np.uint8), "PNG")):
            _, said = told(door)
            assert [text.startswith(f"query 3 is {word} all over") for text in said] == [True]
    night = np.zeros((600, 800), np.uint8)
    night[100:160, 100:160] = 200
    assert told(night)[1] == []
    assert told(np.zeros((60, 80)))[1]
    assert told(np.full((60, 80, 3), 90, np.uint8))[1] == []


@pytest.mark.parametrize(
    "make", [lambda rgba: rgba, lambda rgba: encode(rgba, "PNG"), lambda rgba: rgba / 255.0, Image.fromarray]
)
def test_a_photo_that_is_transparent_all_over_is_seen_and_told(make):
    photo = a_gradient()
    found, said = told(make(np.dstack([photo, np.zeros_like(photo[..., :1])])))
    np.testing.assert_array_equal(found, photo)
    assert [text.startswith("query 3 is transparent all over") for text in said] == [True]
    found, said = told(make(np.dstack([photo, np.full_like(photo[..., :1], 1)])))
    assert [text.startswith("query 3 is white all over") for text in said] == [True]  # as a page would show it


# ------------------------------------------------------------------------------------------- raw photos and phones


def raw_photos():
    tifffile = pytest.importorskip("tifffile")
    thumbnail, sensor = a_gradient(), a_gradient(96, 128)[..., 0].astype(np.uint16) * 16
    made = {}
    for name, first, second in (
        ("NEF, ARW", {"subfiletype": 1}, {"photometric": 32803}),
        ("a preview before the photo", {"subfiletype": 1}, {"photometric": "minisblack"}),
        ("no word of a preview", {}, {"photometric": 32803}),
        ("DNG", {"extratags": [(50706, "B", 4, (1, 4, 0, 0), True)]}, {"photometric": "minisblack"}),
    ):
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            writer.write(thumbnail, photometric="rgb", subifds=1, **first)
            writer.write(sensor, **second)
        made[name] = stream.getvalue()
    made["PEF"] = tiff(sensor, photometric=32803)
    made["CR2"] = tiff(thumbnail, photometric="rgb")[:8] + b"CR\2\0" + bytes(100)
    made["IIQ"] = b"II*\0\x10\0\0\0IIII" + bytes(100)
    made["RAF"], made["RW2"], made["ORF"] = b"FUJIFILMCCD-RAW 0201", b"IIU\0" + bytes(20), b"IIRO" + bytes(20)
    made["CR3"] = b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(20)
    return made


def test_raw_photos_are_refused_not_answered_for_their_thumbnail(tmp_path):
    for name, content in raw_photos().items():
        path = tmp_path / "IMG_1.tif"
        path.write_bytes(content)
        for door in (path, content, io.BytesIO(content)):
            message = refused(door, "raw photo", "develop it", label=name)
            assert name in message
        with pytest.raises(ImageError, match="raw photo"):
            read_mask(content, size=(48, 64))


def test_a_raw_photo_that_is_cut_short_is_still_one():
    content = raw_photos()["DNG"]
    start = int.from_bytes(content[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little")
    for kept in (end, end + 2, end + 20, len(content) // 2):
        refused(content[:kept], "raw photo")  # a warning of Pillow's would be an error here


def test_a_file_of_numpy_is_told_from_a_picture(tmp_path):
    np.save(tmp_path / "mask.npy", np.ones((48, 64), bool))
    refused(tmp_path / "mask.npy", "is a file of NumPy: pass the array in it, numpy.load(...)")
    with pytest.raises(ImageError, match=r"mask\.npy' is a file of NumPy"):
        read_mask(tmp_path / "mask.npy", size=(48, 64))


def test_a_tiff_with_smaller_pictures_inside_is_no_raw_photo():
    tifffile = pytest.importorskip("tifffile")
    photo, stream = a_gradient(), io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(photo, photometric="rgb", subifds=1)
        writer.write(photo[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(stream.getvalue()), photo)


def test_phone_photos_with_and_without_their_package(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    stored = a_gradient()
    image = heif.from_pillow(Image.fromarray(stored))
    for ending in (".HEIC", ".jpg"):  # chat programs rename them
        path = tmp_path / f"IMG_1{ending}"
        image.save(path, quality=-1)
        monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
        monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
        for door in (path, path.read_bytes(), str(path)):
            assert np.abs(read_image(door).astype(int) - stored).max() < 8
        monkeypatch.delitem(Image.OPEN, "HEIF")
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        refused(path, "HEIC", "pip install 'fscs-sdk[heic]'", "JPEG")
        monkeypatch.setitem(sys.modules, "pillow_heif", heif)


# ---------------------------------------------------------------------------------------------- nothing is changed


@pytest.mark.parametrize(
    "make",
    [
        lambda: noise(0, 16, 20, 3),
        lambda: noise(0, 16, 20, 4),
        lambda: noise(0, 16, 20),
        lambda: noise(0, 16, 20, 3, dtype=np.uint16),
        lambda: noise(0, 16, 20, 3) / 255.0,
        lambda: a_blob(16, 20),
    ],
)
def test_arrays_are_neither_changed_nor_shared(make):
    array, untouched = make(), make()
    results = [read_mask(array, size=(16, 20))] if array.dtype == bool else [read_image(array)]
    for result in results:
        assert not np.shares_memory(result, array)
        result[:] = 1
    np.testing.assert_array_equal(array, untouched)


def test_tensors_and_read_only_arrays():
    tensor = torch.from_numpy(noise(0, 3, 16, 20))
    before = tensor.clone()
    read_image(tensor)[:] = 7
    mask = torch.from_numpy(a_blob(16, 20))
    read_mask(mask, size=(16, 20))[:] = True
    assert torch.equal(tensor, before)
    assert not mask.all()
    frozen = noise(0, 16, 20, 3)
    frozen.flags.writeable = False
    read_image(frozen)[:] = 0


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "RGBA", "1", "CMYK", "I;16", "I;16B"])
def test_pil_images_are_not_changed(mode):
    image = photo_in_mode(mode, 0, 16, 20)
    image.info["exif"] = orientation_exif(6).tobytes()
    before, info = image.tobytes(), dict(image.info)
    photo = read_image(image)
    photo[:] = 3
    assert (image.mode, image.size, image.tobytes(), image.info) == (mode, (20, 16), before, info)


def test_importing_does_not_import_torch():
    code = (
        "import importlib.util, sys, numpy\n"
        "spec = importlib.util.spec_from_file_location('images', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert module.read_image(numpy.zeros((8, 8), 'uint8')).shape == (8, 8, 3)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, images.__file__], check=True)


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.skipif(sys.platform != "linux", reason="file names are UTF-8 whatever the locale")
def test_a_name_that_the_locale_cannot_write_is_told_with_the_cure():
    code = "from fscs_sdk.images import read_image; read_image('\\u732b.jpg')"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **locale}, capture_output=True, text=True)
    assert "file names are ascii in this process's locale: start it with PYTHONUTF8=1" in done.stderr


def refused(source, *parts, error=ImageError, **options):
    with pytest.raises(error) as caught:
        read_image(source, **options)
    message = str(caught.value)
    message.encode("utf-8")
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


BAD_ARRAYS = [
    (np.zeros((3, 20, 20), np.uint8), "(3, 20, 20)", "transpose(1, 2, 0)"),
    (np.zeros((20, 20, 2), np.uint8), "(20, 20, 2)", "one photo"),
    (np.zeros((2, 20, 20, 3), np.uint8), "(2, 20, 20, 3)", "one photo at a time"),
    (np.zeros(20, np.uint8), "(20,)", "one photo"),
    (np.zeros((0, 0, 3), np.uint8), "0 x 0", "larger"),
    (np.zeros((7, 20, 3), np.uint8), "20 x 7", "at least 8", "larger"),
    (np.zeros((1, 1), np.uint8), "1 x 1", "larger"),
    (np.zeros((20, 20, 3), bool), "bool", "uint8"),
    (np.zeros((20, 20, 3), np.int64), "int64", "uint8"),
    (np.zeros((20, 20, 3), object), "object", "uint8"),
    (np.zeros((20, 20, 3), complex), "complex128", "uint8"),
    (np.full((20, 20, 3), 255.0), "from 255 to 255", "divide by 255"),
    (np.linspace(-2, 2, 1200).reshape(20, 20, 3), "from -2 to 2", "normalisation"),
    (np.full((20, 20, 3), np.nan), "NaN", "replace"),
    (np.full((20, 20, 3), np.inf, np.float16), "infinite", "replace"),
    (torch.zeros(20, 20, 3), "(20, 20, 3)", "permute(2, 0, 1)"),
    (torch.zeros(20, 20), "(20, 20)", "unsqueeze(0)"),
    (torch.zeros(1, 3, 20, 20), "(1, 3, 20, 20)", "one photo at a time"),
    (torch.zeros(3, 20, 20, dtype=torch.int32), "int32", "uint8"),
    (torch.zeros(3, 20, 20, dtype=torch.bool), "bool", "uint8"),
    (torch.full((3, 20, 20), 255.0), "from 255 to 255", "divide by 255"),
    (torch.full((3, 20, 20), float("nan")), "NaN", "replace"),
    (torch.zeros(3, 20, 4), "4 x 20", "larger"),
    (torch.zeros(3, 20, 20, device="meta"), "meta", "ordinary tensor"),
    (Image.new("F", (20, 20), 3.0), "from 3 to 3", "divide by 255"),
    (Image.new("I", (20, 20), 70000), "70000", "scale"),
    (Image.new("I", (20, 20), -1), "-1", "scale"),
    (Image.new("RGB", (4, 20)), "4 x 20", "larger"),
    (None, "NoneType", "pass a path"),
    (["a.jpg"], "list", "pass a path"),
    (b"", "empty", "again"),
    (b"no image at all", "not an image", "PNG or JPEG"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image", "PNG or JPEG"),
    (io.StringIO("text"), "as text", "'rb'"),
]


@pytest.mark.parametrize(("source", "parts"), [(row[0], row[1:]) for row in BAD_ARRAYS])
def test_refusals_name_the_thing_and_the_cure(source, parts):
    if isinstance(source, io.StringIO):
        source.seek(0)
    refused(source, "query 3", *parts, label="query 3")
    if isinstance(source, io.StringIO):
        source.seek(0)
    refused(source, "the photo given as", *parts)


def test_closed_and_write_only_files_and_closed_images(tmp_path):
    closed = io.BytesIO(b"x")
    closed.close()
    refused(closed, "query 3", "closed file", "'rb'", label="query 3")
    with open(tmp_path / "out.png", "wb") as out:
        refused(out, "query 3", "'rb'", label="query 3")
    image = Image.open(io.BytesIO(encode(noise(0, 16, 16, 3), "PNG")))
    image.close()
    refused(image, "query 3", label="query 3")


def test_addresses_are_not_downloaded():
    for address in ("http://a.b/c.jpg", "HTTPS://a.b/c.jpg", "s3://bucket/c.jpg"):
        refused(address, address, "downloaded", "fetch it first")


def test_paths_that_cannot_be_opened(tmp_path, monkeypatch):
    missing = tmp_path / "missing.jpg"
    refused(missing, "missing.jpg", "does not exist", "check the path", error=FileNotFoundError)
    refused(str(missing), "query 3 (", "missing.jpg", error=FileNotFoundError, label="query 3")
    refused("", "''", "does not exist", error=FileNotFoundError)
    refused(tmp_path, tmp_path.name, "is a folder", "one of the files", error=IsADirectoryError)
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file" / "x.jpg", "x.jpg", "check the path", error=NotADirectoryError)
    refused(tmp_path / ("a" * 300), "aaa", "check the path", error=OSError)
    refused("a\0b.jpg", r"a\x00b.jpg", "check it")

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    refused(tmp_path / "file", "file", "permissions", error=PermissionError)
    refused(tmp_path, "is a folder", error=IsADirectoryError)  # as Windows has it


def test_a_failing_disk_is_not_called_a_damaged_photo(tmp_path, monkeypatch):
    class FailingDisk(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 40:
                raise OSError(5, "Input/output error")
            return super().read(min(size, 41))

    monkeypatch.setattr("builtins.open", lambda *_: FailingDisk(encode(noise(0, 64, 64, 3), "PNG")))
    message = refused(tmp_path / "x.png", "x.png", "Input/output error", "disk", error=OSError)
    assert "damaged" not in message


def test_odd_file_names_do_not_break_the_message(tmp_path):
    for raw in (b"caf\xe9.png", b"new\nline.png", "\u732b.png".encode()):
        path = os.fsdecode(os.path.join(os.fsencode(tmp_path), raw))
        refused(path, "does not exist", error=FileNotFoundError)
        try:
            pathlib.Path(path).write_bytes(b"not an image")
        except OSError:
            continue  # a file system that holds UTF-8 only
        refused(path, "not an image")
        refused(path, "not an image", label=path.replace("\n", " "))
        pathlib.Path(path).write_bytes(encode(noise(0, 9, 9, 3), "PNG"))
        assert read_image(path).shape == (9, 9, 3)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
@pytest.mark.parametrize("part", [0.3, 0.6])
def test_truncated_files_are_refused_by_name(tmp_path, file_format, part):
    content = encode(noise(0, 80, 80, 3), file_format)
    path = tmp_path / "cut.jpg"
    path.write_bytes(content[: int(len(content) * part)])
    refused(path, "cut.jpg", "damaged", "again")
    with pytest.raises(ImageError, match=r"cut\.jpg"), path.open("rb") as stream:
        read_image(stream, label="cut.jpg")


FUZZ_FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "TIFF_LZW", "BMP", "JPEG2000", "PNG16", "PNG_P"]


def fuzz_seed(file_format):
    rgb = noise(1, 12, 18, 3, high=60)
    exif = orientation_exif(6)
    if file_format == "PNG16":
        return encode(noise(2, 12, 18, dtype=np.uint16), "PNG", exif=exif)
    if file_format == "PNG_P":
        return encode(Image.fromarray(rgb).quantize(16), "PNG", transparency=bytes(range(16)))
    if file_format == "TIFF_LZW":
        return encode(rgb, "TIFF", compression="tiff_lzw", exif=exif)
    if file_format in ("JPEG", "PNG", "WEBP", "TIFF"):
        return encode(rgb, file_format, exif=exif)
    if file_format == "GIF":
        frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
        return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    return encode(rgb, file_format)


FUZZ_SEEDS = {file_format: fuzz_seed(file_format) for file_format in FUZZ_FORMATS}


@fuzz
@given(
    file_format=st.sampled_from(FUZZ_FORMATS),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    head=st.booleans(),
    keep=st.floats(0, 1),
    mask=st.booleans(),
)
@example(file_format="PNG", edits=[], head=False, keep=1.0, mask=False)
def test_broken_bytes_raise_nothing_but_image_error(file_format, edits, head, keep, mask):
    content = bytearray(FUZZ_SEEDS[file_format])
    for place, value in edits:
        content[int(place * (min(len(content), 64) if head else len(content)))] = value
    if not edits:
        del content[int(keep * len(content)) :]
    if file_format.startswith("PNG"):
        content = with_fresh_checksums(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow may have its say on broken metadata; it is not an error of ours
        try:
            if mask:
                result = read_mask(bytes(content), size=(18, 12), max_pixels=1_000_000)
                assert (result.shape, result.dtype) == ((18, 12), bool)
                return
            photo = read_image(bytes(content), max_pixels=1_000_000)
        except ImageError:
            return
        stored = Image.open(io.BytesIO(content)).size
    assert photo.dtype == np.uint8
    assert sorted(photo.shape) == sorted((*stored, 3))


def with_fresh_checksums(content):
    """Mends the checksums, so that the fuzz reaches what lies behind them."""
    content, start = bytearray(content), 8
    while start + 12 <= len(content):
        end = start + 8 + int.from_bytes(content[start : start + 4], "big")
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[start + 4 : end]))
        start = end + 4
    return content


@fuzz
@given(
    content=st.binary(max_size=80), prefix=st.sampled_from([b"", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"P5 ", b"BM"])
)
def test_any_bytes_raise_nothing_but_image_error(content, prefix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ImageError):
            assert read_image(prefix + content, max_pixels=10_000).shape[2] == 3


# ---------------------------------------------------------------------------------------------------------- limits


def test_a_bomb_is_refused_from_its_header(tmp_path):
    bomb = png([png_header(60000, 60000), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")])
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    read_image(encode(noise(0, 8, 8, 3), "PNG"))  # the decoders are loaded
    tracemalloc.start()
    start = time.perf_counter()
    for call in (read_image, lambda source: read_mask(source, size=(60000, 60000))):
        for source in (path, bomb, io.BytesIO(bomb)):
            with pytest.raises(ImageError, match=r"60000 x 60000.*max_pixels") as caught:
                call(source)
            assert "bomb DOS" not in str(caught.value)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 2
    assert peak < 5_000_000


def test_a_huge_jpeg_is_refused_before_it_is_decoded(tmp_path):
    content = bytearray(encode(noise(0, 16, 16, 3), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 50000, 60000)
    path = tmp_path / "huge.jpg"
    path.write_bytes(content)
    refused(path, "huge.jpg", "60000 x 50000", "max_pixels")


def test_the_cap_holds_for_arrays_tensors_and_pil_images():
    photo = noise(0, 20, 30, 3)
    tensor = torch.from_numpy(photo).permute(2, 0, 1)
    for door in (photo, photo[..., 0], tensor, Image.fromarray(photo), encode(photo, "PNG")):
        assert read_image(door, max_pixels=600).shape == (20, 30, 3)
        refused(door, "query 3", "30 x 20", "599", "max_pixels", label="query 3", max_pixels=599)
    blob = a_blob(20, 30)
    for door in (blob, torch.from_numpy(blob), Image.fromarray(blob)):
        with pytest.raises(ImageError, match=r"mask 1 is 30 x 20.*max_pixels"):
            read_mask(door, size=(20, 30), label="mask 1", max_pixels=599)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"exif": orientation_exif(8)}),
    ],
)
def test_pillows_own_limit_does_not_speak(monkeypatch, file_format, options):
    content = encode(noise(0, 20, 30, 3), file_format, **options)
    expected = read_image(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # 600 pixels: Image.open would warn, an error under -W error
    np.testing.assert_array_equal(read_image(content), expected)
    assert images.DEFAULT_MAX_PIXELS == 100_000_000
    assert Image.MAX_IMAGE_PIXELS == 400


def test_pillows_own_limit_in_our_words(monkeypatch):
    content = encode(noise(0, 20, 30, 3), "WEBP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused(content, "query 3", "smaller", label="query 3")


# --------------------------------------------------------------------------------------------------------- resizing


@quick
@given(seed=seeds, height=st.integers(8, 90), width=st.integers(8, 90), side=st.integers(1, 90))
@example(seed=0, height=20, width=20, side=20)
def test_resizing_is_torchvisions(seed, height, width, side):
    photo = noise(seed, height, width, 3)
    bilinear = torchvision.transforms.Resize((side, side))
    resized = resize_image(photo, side)
    assert resized.flags.writeable
    np.testing.assert_array_equal(resized, np.array(bilinear(Image.fromarray(photo))))
    mask = a_blob(height, width)
    nearest = torchvision.transforms.Resize((side, side), torchvision.transforms.InterpolationMode.NEAREST)
    resized_mask = resize_mask(mask, side)
    assert resized_mask.dtype == np.bool_
    if side >= 16:  # from where on no part of the mask is thinner than a position
        np.testing.assert_array_equal(resized_mask, np.array(nearest(Image.fromarray(mask.astype(np.uint8)))) > 0)
    resized[:] = 0
    np.testing.assert_array_equal(photo, noise(seed, height, width, 3))


def test_resizing_refuses_what_is_no_photo():
    with pytest.raises(ImageError, match=r"float64 of shape \(9, 9, 3\).*read_image"):
        resize_image(np.zeros((9, 9, 3)), 4)
    with pytest.raises(ImageError, match=r"uint8 of shape \(9, 9\).*read_mask"):
        resize_mask(np.zeros((9, 9), np.uint8), 4)
    for call in (lambda: resize_image(noise(0, 9, 9, 3), 0), lambda: resize_mask(a_blob(), -1)):
        with pytest.raises(ImageError, match="at least 1"):
            call()


# ------------------------------------------------------------------------------------------------------- close-ups


@given(
    size=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    box=st.tuples(*[st.floats(0, 1)] * 4),
    below=st.floats(0, 1),
)
def test_a_close_up_keeps_the_object_and_its_surroundings(size, box, below):
    (height, width), (top, left, tall, wide) = size, box
    mask = np.zeros(size, dtype=bool)
    y, x = int(top * (height - 1)), int(left * (width - 1))
    mask[y : y + 1 + int(tall * height), x : x + 1 + int(wide * width)] = True
    image = np.dstack([*np.indices(size), mask]).astype(np.uint8)
    kept, inside = close_up(image, mask, below)
    assert kept.shape[:2] == inside.shape
    assert inside.sum() == mask.sum()
    np.testing.assert_array_equal(kept[..., 2], inside)
    rows, columns = mask.any(axis=1).sum(), mask.any(axis=0).sum()
    if rows >= below * height or columns >= below * width:
        assert kept.shape == image.shape
    else:
        side = 2 * max(rows, columns)
        assert kept.shape[:2] == (min(side, height), min(side, width))


def test_a_close_up_of_nothing_is_the_whole_photo():
    image, nothing = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), dtype=bool)
    assert close_up(image, nothing, 1.0)[0] is image


@pytest.mark.parametrize("limit", ["a", -1, 0, 1.5, True, None])
def test_a_limit_of_pixels_that_is_none_is_refused_by_its_name(limit):
    with pytest.raises(ImageError, match=r"max_pixels is .*: it must be a whole number of pixels above 0"):
        read_image(np.full((20, 30, 3), 90, np.uint8), max_pixels=limit)
