"""What a mask means: the guide's table row by row, and any binary mask through any form and back."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from fscs_sdk.images import ImageError, ImageWarning, read_mask, resize_mask

quick = settings(max_examples=60, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)
GUIDE = Path(__file__).parent.parent / "docs" / "guide.md"
SIZE = HEIGHT, WIDTH = 60, 80
GREY_RAMP = tuple((level, level, level) for level in range(256))
VOC = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))


def a_blob(height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 4 : width // 2] = True
    return mask


BLOB = a_blob()
WHITE = np.where(BLOB, 255, 0).astype(np.uint8)


def encode(image, file_format="PNG", **options):
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, file_format, **options)
    return stream.getvalue()


def noise(seed, *shape, dtype=np.uint8, high=None):
    high = np.iinfo(dtype).max if high is None else high
    return np.random.default_rng(seed).integers(0, high, shape, dtype=dtype, endpoint=True)


def palette_image(indices, colours=VOC, rest=(224, 224, 192)):
    image = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    table = np.full((256, 3), rest, np.uint8)
    table[: len(colours)] = colours
    image.putpalette(table.tobytes())
    return image


def with_void(values, void=255):
    values = np.array(values)
    values[:5] = void
    return values


def blurred(radius, size=(300, 400)):
    """A large blob and its soft version, uint8."""
    hard = a_blob(*size)
    return hard, np.asarray(
        Image.fromarray(np.where(hard, 255, 0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    )


def rgba(colours, alpha):
    return np.dstack([np.broadcast_to(colours, (*alpha.shape, 3)), alpha]).astype(np.uint8)


def frames(*pictures, file_format="GIF"):
    first, *rest = (Image.fromarray(picture) for picture in pictures)
    return encode(first, file_format, save_all=True, append_images=rest)


def erased(image, where):
    image = rgba(image if image.ndim == 3 else image[..., None], np.full(image.shape[:2], 255))
    image[(*where, 3)] = 0
    return image


PHOTO = noise(0, *SIZE, 3)
BLACK_FIRST, WHITE_FIRST = ((0, 0, 0), (255, 255, 255)), ((255, 255, 255), (0, 0, 0))
RED = np.where(BLOB[..., None], (200, 0, 0), 0).astype(np.uint8)
SOFT_HARD, SOFT = blurred(2)
VERY_SOFT = encode(blurred(60)[1])
_, WIDE = blurred(10)
MATTE = np.clip(WIDE * 0.7, 0, 255).astype(np.uint8)
WIRE = np.zeros((600, 800), bool)
WIRE[::250, 10:-10] = True
SEVERAL = WHITE // 255
SEVERAL = np.where(np.arange(HEIGHT)[:, None] > 40, 2, SEVERAL).astype(np.uint8)
TRIMAP = np.where(np.arange(HEIGHT)[:, None] > 40, 128, WHITE).astype(np.uint8)
BIG = np.zeros(SIZE, bool)
BIG[10:50, 15:60] = True

#: First cell of a row -> masks of that kind, each with what is foreground in it; None where it is refused.
ROWS = {
    "bool array, 1-bit image": [
        (BLOB, BLOB),
        (torch.from_numpy(BLOB)[None], BLOB),
        (encode(Image.fromarray(BLOB)), BLOB),
        (encode(Image.fromarray(BLOB), "TIFF", compression="group4"), BLOB),
        (encode(Image.fromarray(BLOB), "BMP"), BLOB),
        (encode(Image.fromarray(BLOB), "PPM"), BLOB),
    ],
    "one value on 0: 0 and 1, 0 and 255, 0 and 7, in 8 or 16 bits": [
        (WHITE, BLOB),
        (encode(WHITE // 255), BLOB),
        (encode(BLOB * np.uint8(7)), BLOB),
        (encode(BLOB * np.uint16(1000)), BLOB),
        (encode(BLOB * np.uint16(65535), "TIFF"), BLOB),
        (BLOB.astype(np.int64), BLOB),
        (encode(np.dstack([WHITE] * 3), "BMP"), BLOB),
    ],
    "black and white in a palette of any order: GIF, PNG reduced to few colours": [
        (encode(palette_image(BLOB, BLACK_FIRST)), BLOB),
        (encode(palette_image(~BLOB, WHITE_FIRST)), BLOB),
        (encode(palette_image(~BLOB, WHITE_FIRST), bits=1), BLOB),
        (encode(palette_image(np.where(BLOB, 9, 3), [(0, 0, 0)] * 9 + [(250, 250, 250)])), BLOB),
        (encode(np.dstack([WHITE] * 3), "GIF"), BLOB),
        (encode(Image.fromarray(np.dstack([WHITE] * 3)).quantize(2)), BLOB),
        (encode(Image.fromarray(np.dstack([SOFT] * 3)).quantize(256)), SOFT_HARD),
        (encode(palette_image(WHITE, GREY_RAMP)), BLOB),
    ],
    "one colour on black, on transparency, or in a palette with black": [
        (encode(RED), BLOB),
        (RED / 255.0, BLOB),
        (encode(RED, "BMP"), BLOB),
        (encode(Image.fromarray(RED).quantize(2)), BLOB),
        (encode(palette_image(~BLOB, ((200, 0, 0), (0, 0, 0)))), BLOB),
        (encode(rgba((200, 0, 0), WHITE)), BLOB),
        (encode(rgba((0, 0, 0), WHITE)), BLOB),
        (encode(Image.fromarray(rgba(RED, WHITE)).quantize(2, method=Image.Quantize.FASTOCTREE)), BLOB),
        (encode(palette_image(WHITE, rest=(255, 0, 0))), BLOB),
    ],
    "class numbers 0, v and 255 with v up to 100; in 16 bits also 0, v and 65535": [
        (with_void(BLOB * np.uint8(1)), BLOB),
        (encode(with_void(BLOB * np.uint8(15))), BLOB),
        (encode(with_void(BLOB * np.uint8(100))), BLOB),
        (torch.from_numpy(with_void(BLOB * 7)), BLOB),
        (encode(with_void(BLOB * np.uint16(300), 65535)), BLOB),
    ],
    "palette with black for 0, a colour for one class number, and 255": [
        (encode(palette_image(with_void(BLOB * np.uint8(1)))), BLOB),
        (encode(palette_image(with_void(BLOB * np.uint8(3)))), BLOB),
        (encode(palette_image(with_void(BLOB * np.uint8(2)), rest=(255, 255, 255))), BLOB),
        (encode(palette_image(with_void(BLOB * np.uint8(200)), rest=(9, 8, 7))), BLOB),
    ],
    "white on black with soft edges, or noise of JPEG": [
        (SOFT, SOFT_HARD),
        (encode(SOFT), SOFT_HARD),
        (encode(SOFT.astype(np.uint16) * 257), SOFT_HARD),
        (encode(WIDE), SOFT_HARD),
        (encode(MATTE), SOFT_HARD),
        (encode(WHITE, "JPEG", quality=60), BLOB),
        (encode(np.dstack([SOFT] * 3), "JPEG", quality=40), SOFT_HARD),
        (encode(SOFT, "WEBP", quality=60), SOFT_HARD),
        (encode(np.asarray(Image.open(io.BytesIO(encode(WHITE, "JPEG", quality=80))))), BLOB),
    ],
    "floats from 0 to 1": [
        (BLOB.astype(np.float16), BLOB),
        (np.where(BLOB, 0.5, 0.4999), BLOB),
        (np.where(BLOB, 0.8, np.linspace(0, 0.4, WIDTH)), BLOB),
        (torch.from_numpy(BLOB).to(torch.bfloat16), BLOB),
        (np.where(BLOB, 0.8, np.arange(WIDTH) % 3 * 0.2), BLOB),
        (encode(Image.fromarray(BLOB.astype(np.float32)), "TIFF"), BLOB),
    ],
    "floats that are whole numbers, or class numbers divided by 255": [
        (WHITE.astype(np.float32), BLOB),
        (BLOB * 7.0, BLOB),
        (BLOB.astype(np.float32) / 255, BLOB),
        (torch.from_numpy(with_void(BLOB * np.uint8(3))).float() / 255, BLOB),
    ],
    "photo or one colour cut out by transparency": [
        (encode(rgba(PHOTO, WHITE)), BLOB),
        (encode(rgba(PHOTO, BLOB * 128)), BLOB),
        (rgba(PHOTO, WHITE) / 255.0, BLOB),
        (encode(Image.fromarray(rgba(PHOTO, WHITE)).convert("LA")), BLOB),
        (encode(rgba(255, SOFT)), SOFT_HARD),
        (encode(np.where(BLOB[..., None], PHOTO // 2, 255).astype(np.uint8), transparency=(255, 255, 255)), BLOB),
    ],
    "black and white, of which up to a tenth is transparent": [
        (encode(erased(WHITE, np.s_[0, 0])), BLOB),
        (encode(erased(WHITE, np.s_[:3, :])), BLOB),
        (encode(Image.fromarray(erased(WHITE, np.s_[-2:, -2:])).convert("LA")), BLOB),
        (erased(np.asarray(Image.fromarray(WHITE)), np.s_[0, 5]), BLOB),
    ],
    "0 and 255 or the like where a hundredth of the object is thinner than a position of the network": [(WIRE, WIRE)],
    "nothing, or everything": [
        (np.zeros(SIZE, np.uint8), ~BLOB & BLOB),
        (encode(np.full(SIZE, 255, np.uint8)), BLOB | ~BLOB),
        (np.full(SIZE, 0.3), ~BLOB & BLOB),
        (np.full(SIZE, 0.4), ~BLOB & BLOB),
        (encode(palette_image(WHITE)), ~BLOB & BLOB),  # nothing but VOC's void
    ],
    "foreground along nine tenths of the border, around the rest": [
        (~BLOB, ~BLOB),
        (encode(255 - WHITE), ~BLOB),
        (encode(255 - np.dstack([WHITE] * 3), "GIF"), ~BLOB),
        (encode(palette_image(~BIG)), ~BIG),
    ],
    "transparent all over": [(encode(rgba(np.dstack([WHITE] * 3), np.zeros(SIZE))), BLOB)],
    "file with several pictures": [
        (frames(WHITE, 255 - WHITE), BLOB),
        (frames(WHITE, 255 - WHITE, file_format="TIFF"), BLOB),
    ],
    "several class numbers, or several colours": [
        (SEVERAL, None),
        (encode(with_void(SEVERAL)), None),
        (encode(palette_image(SEVERAL)), None),
        (encode(np.array(VOC, np.uint8)[SEVERAL]), None),
        (encode(np.array(VOC, np.uint8)[SEVERAL], "JPEG", quality=95), None),
        (encode(palette_image(SEVERAL), transparency=0), None),
        (noise(0, *SIZE, dtype=np.uint16, high=9), None),
        (np.where(BLOB, -1, 0), None),
        (np.where(BLOB, 1, 2), None),
        (np.where(BLOB, 1.0, 2.0), None),
        (np.where(BLOB, 0.2, np.arange(WIDTH) // 60), None),  # 51 and 255, or 0.2 and 1?
    ],
    "0, a number above 100 and 255 in areas: trimaps, half-transparent parts, void": [
        (TRIMAP, None),
        (encode(TRIMAP), None),
        (encode(np.where(TRIMAP == 128, 254, TRIMAP).astype(np.uint8)), None),  # a high number, and void
        (TRIMAP / 255, None),
        (encode(TRIMAP, "JPEG", quality=95), None),
    ],
    "so soft that it depends on where it is cut, or a photo": [
        (VERY_SOFT, None),
        (encode(np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))), None),
        (encode(PHOTO), None),
        (encode(PHOTO[..., 0]), None),
        (encode(PHOTO, "JPEG"), None),
        (encode(rgba(255, np.tile(np.linspace(0, 255, WIDTH), (HEIGHT, 1)))), None),
    ],
    "small class numbers in a JPEG": [
        (encode(BLOB * np.uint8(3), "JPEG", quality=100), None),
        (encode(SEVERAL * np.uint8(8), "JPEG", quality=95), None),
    ],
    "palette that paints 0 in a colour, or several values alike": [
        (encode(palette_image(BLOB, ((200, 0, 0), (255, 255, 255)))), None),
        (encode(palette_image(BLOB, ((9, 9, 9), (9, 9, 9)))), None),
        (encode(palette_image(BLOB, ((0, 0, 200), (200, 0, 0)))), None),
    ],
    "black and white of which more than a tenth is transparent; black with a few transparent pixels": [
        (encode(erased(WHITE * 0, np.s_[0, 0])), None),
        (encode(erased(WHITE, np.s_[:20, :])), None),
        (erased(WHITE, np.s_[:, 40:]), None),
    ],
    "photo of which nearly nothing is transparent": [(encode(erased(PHOTO, np.s_[:2, :5])), None)],
    "floats below 0 or above 1 such as logits, NaN": [
        (np.where(BLOB, 3.2, -4.1), None),
        (np.where(BLOB, np.nan, 0), None),
        (np.where(BLOB, np.inf, 0), None),
        (np.where(BLOB, 254.5, 0), None),
        (np.dstack([BLOB * 1.0] * 3 + [np.where(BLOB, np.nan, 1)]), None),
    ],
    "not of its photo's size; points or boxes": [
        (BLOB[:-1], None),
        (encode(BLOB.T), None),
        (np.array([[1, 2], [30, 2], [30, 40]]), None),
        (np.array([[1, 2, 30, 40]]), None),
    ],
}  # fmt: skip


def table_of_the_guide():
    section = GUIDE.read_text(encoding="utf-8").split("\n## Masks\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {mask.strip(): meaning.strip() for mask, meaning in rows[2:]}


def test_the_guide_and_the_tests_have_the_same_rows():
    assert list(table_of_the_guide()) == list(ROWS)


def read(source, size):
    """A mask and what was told, or the refusal alone."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            mask = read_mask(source, size=size, label="mask of dog")
        except ImageError as error:
            return None, str(error)
    assert all((warning.category, warning.filename) == (ImageWarning, __file__) for warning in told)
    return mask, "\n".join(str(warning.message) for warning in told)


@pytest.mark.parametrize("row", ROWS)
def test_the_guides_table_of_masks(row):
    meaning = table_of_the_guide()[row]
    for number, (source, truth) in enumerate(ROWS[row]):
        mask, said = read(source, (300, 400) if source is VERY_SOFT else SIZE if truth is None else truth.shape)
        case = f"{row}, example {number}: {said}"
        assert (mask is None) == (truth is None) == meaning.startswith("refused: "), case
        assert bool(said) == meaning.startswith(("refused: ", "told: ")), case
        assert not said or (said.startswith("mask of dog ") and "\n" not in said), case
        if mask is not None:
            wrong = (mask != truth).sum() / max(1, min(truth.sum(), (~truth).sum()))
            assert wrong < (0.05 if row.startswith("white on black with soft") or truth is SOFT_HARD else 1e-9), case


def test_a_refusal_says_what_to_pass():
    for source, part in (
        (SEVERAL, "0, 1, 2: choose one and pass `mask == id`"),
        (TRIMAP, "0, 128, 255"),
        (noise(0, *SIZE), "256 different levels"),
        (np.where(BLOB, -1, 0), "-1, 0"),
        (np.where(BLOB, 70000, 0), "70000"),
        (np.where(BLOB, 3.2, -4.1), "from -4.1 to 3.2"),
        (VERY_SOFT, "mask > 127"),
        (BLOB[:, :-1], "79 x 60 but its photo is 80 x 60"),
        (BLOB.T, "turned by 90 degrees"),
        (np.zeros((3, *SIZE)), "transpose(1, 2, 0)"),
        (np.zeros((2, *SIZE, 1)), "one mask at a time"),
        (np.zeros(SIZE, complex), "complex128"),
        (torch.zeros(3, *SIZE), "one mask at a time"),
        (np.array([[1, 2], [30, 2], [30, 40]]), "points of a polygon"),
        (np.array([[1, 2, 30, 40]]), "boxes"),
        (b"", "empty"),
        (3, "pass a path"),
    ):
        mask, said = read(source, (300, 400) if source is VERY_SOFT else SIZE)
        assert mask is None
        assert part in said
        assert "mask of dog" in said
    with pytest.raises(ImageError, match="no pixels"):
        read_mask(np.zeros((0, 0), bool), size=(0, 0))


def test_paths_name_themselves(tmp_path):
    path = tmp_path / "dog_mask.png"
    with pytest.raises(FileNotFoundError, match=r"dog_mask\.png"):
        read_mask(path, size=SIZE)
    path.write_bytes(encode(noise(0, *SIZE)))
    with pytest.raises(ImageError, match=r"dog_mask\.png.*different levels"):
        read_mask(path, size=SIZE)
    path.write_bytes(encode(255 - WHITE))
    with pytest.warns(ImageWarning, match=r"dog_mask\.png.*invert"):
        read_mask(path, size=SIZE)


# ------------------------------------------------------------------------------------------------- there and back


@st.composite
def binary_masks(draw):
    """Blobs, noise, single pixels: any mask that is neither empty nor full."""
    height, width = draw(st.integers(8, 40)), draw(st.integers(8, 40))
    generator = np.random.default_rng(draw(seeds))
    mask = generator.random((height, width)) < draw(st.sampled_from([0.01, 0.5, 0.99]))
    if draw(st.booleans()):
        rows, columns = np.sort(generator.integers(0, (height, width), (2, 2)), axis=0).T
        mask[:] = False
        mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    mask[0, :2] = (True, False)
    return mask


def forms(mask, value):
    """A binary mask in every form that people keep masks in: name -> what is given to read_mask."""
    white, number = np.where(mask, 255, 0).astype(np.uint8), np.where(mask, value, 0)
    pil, colour = Image.fromarray(white), np.where(mask[..., None], (value % 200 + 40, 0, 90), 0).astype(np.uint8)
    made = {
        "bool": mask, "uint8": white, "int64": number, "float": mask.astype(np.float32),
        "tensor": torch.from_numpy(mask),
        "float 255": white.astype(np.float64), "big endian": number.astype(">u2"), "fortran": np.asfortranarray(white),
        "PIL L": pil, "PIL 1": Image.fromarray(mask), "PIL F": Image.fromarray(mask.astype(np.float32)),
        "PIL I": Image.fromarray(number.astype(np.int32)), "PIL P": pil.convert("P"), "PIL CMYK": pil.convert("CMYK"),
        "PIL YCbCr": pil.convert("YCbCr"), "PIL HSV": pil.convert("HSV"), "PIL LA": pil.convert("LA"),
        "PIL quantized": pil.convert("RGB").quantize(2),
        "PIL adaptive": pil.convert("P", palette=Image.Palette.ADAPTIVE),
        "alpha": encode(rgba((0, 0, 0), white)), "red alpha": encode(rgba((200, 10, 10), white), "WEBP", lossless=True),
        "red": encode(colour), "red GIF": encode(colour, "GIF"),
        "red reduced": encode(Image.fromarray(colour).quantize(2)),
        "16 bit": encode(number.astype(np.uint16)), "16 bit TIFF": encode(number.astype(np.uint16), "TIFF"),
        "GIF": encode(pil, "GIF"), "RGB GIF": encode(pil.convert("RGB"), "GIF"), "BMP": encode(pil, "BMP"),
        "PGM": encode(pil, "PPM"), "JPEG 2000": encode(pil, "JPEG2000"), "WebP": encode(pil, "WEBP", lossless=True),
        "1-bit PNG": encode(pil.convert("1")), "1-bit BMP": encode(pil.convert("1"), "BMP"),
        "fax": encode(pil.convert("1"), "TIFF", compression="group4"),
        "packed": encode(pil, "TIFF", compression="packbits"),
        "JPEG": encode(pil, "JPEG", quality=100), "black first": encode(palette_image(mask, BLACK_FIRST), bits=1),
        "white first": encode(palette_image(~mask, WHITE_FIRST), bits=1), "VOC": encode(palette_image(3 * mask)),
        "cv2 PNG": cv2.imencode(".png", white)[1].tobytes(), "cv2 TIFF": cv2.imencode(".tiff", white)[1].tobytes(),
        "cv2 BGR": cv2.imencode(".png", cv2.cvtColor(white, cv2.COLOR_GRAY2BGR))[1].tobytes(),
        "cv2 BGRA": cv2.imencode(".png", cv2.cvtColor(white, cv2.COLOR_GRAY2BGRA))[1].tobytes(),
        "cv2 16": cv2.imencode(".png", white.astype(np.uint16) * 257)[1].tobytes(),
        "cv2 WebP": cv2.imencode(".webp", white, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes(),
    }  # fmt: skip
    try:
        import tifffile
    except ImportError:
        return made
    for photometric in ("minisblack", "miniswhite"):
        turned = photometric == "miniswhite"
        for name, values in (("uint8", white), ("uint16", white.astype(np.uint16) * 257), ("bool", mask)):
            stream = io.BytesIO()
            inverted = ~values if values.dtype == bool else np.iinfo(values.dtype).max - values
            tifffile.imwrite(stream, inverted if turned else values, photometric=photometric)
            made[f"tifffile {photometric} {name}"] = stream.getvalue()
    return made


@settings(max_examples=40, deadline=None, database=None)
@given(mask=binary_masks(), value=st.integers(1, 254) | st.integers(256, 65535))
@example(mask=BLOB, value=1)
@example(mask=~BLOB, value=255)
def test_a_binary_mask_comes_back_or_is_refused(mask, value):
    for name, source in forms(mask, value).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImageWarning)
            try:
                found = read_mask(source, size=mask.shape)
            except ImageError:
                assert name in ("JPEG", "alpha"), name  # noise may be any; black nearly all over may be meant so
                continue
        if name == "JPEG":
            assert (found != mask).mean() < 0.02, name
        else:
            np.testing.assert_array_equal(found, mask, err_msg=name)


@quick
@given(seed=seeds, levels=st.integers(1, 5), channels=st.sampled_from([0, 1, 3, 4]), dtype=st.sampled_from("BHhif?"))
@example(seed=3839, levels=1, channels=4, dtype="?")
def test_any_array_is_read_or_refused(seed, levels, channels, dtype):
    generator = np.random.default_rng(seed)
    values = generator.choice([-1, 0, 0, 1, 2, 5, 100, 200, 254, 255, 30000], levels)
    shape = (12, 15, channels) if channels else (12, 15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        try:
            mask = read_mask(generator.choice(values, shape).astype(dtype), size=(12, 15))
        except ImageError:
            return
    assert (mask.shape, mask.dtype) == ((12, 15), np.bool_)


def soft_disc(height=120, width=160, blur=1.5):
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2) - height / 4
    return np.clip(0.5 - distance / (2 * blur), 0, 1), distance < 0


@quick
@given(quality=st.integers(30, 100), blur=st.floats(0.1, 3), colour=st.sampled_from(["L", "RGB", "red"]))
def test_soft_edges_are_cut_at_half(quality, blur, colour):
    soft, hard = soft_disc(blur=blur)
    grey = np.rint(soft * 255).astype(np.uint8)
    if colour == "red":
        grey = np.dstack([grey, grey // 8, grey // 8])
    elif colour == "RGB":
        grey = np.dstack([grey] * 3)
    options = {"quality": quality, "subsampling": 0} if colour == "red" else {"quality": quality}
    doors = [grey, encode(grey), encode(grey, "JPEG", **options)]
    if colour == "L":
        doors += [grey.astype(np.uint16) * 257, soft]
    for door in doors:
        assert (read_mask(door, size=hard.shape) != hard).mean() < 0.01


# ------------------------------------------------------------------------------------------ at the network's size


@quick
@given(seed=seeds, width=st.integers(1, 9), length=st.integers(40, 900), turned=st.booleans())
def test_a_thin_object_does_not_vanish_at_the_networks_size(seed, width, length, turned):
    top, left = np.random.default_rng(seed).integers(0, (990 - width, 1000 - length))
    mask = np.zeros((990, 1000), bool)
    mask[top : top + width, left : left + length] = True
    small = resize_mask(mask.T if turned else mask, 96)
    small = small.T if turned else small
    assert abs(small.any(axis=0).sum() - length * 0.096) <= 2  # as long as it was
    assert small.any(axis=1).sum() <= 3  # and as thin as a position allows


def test_a_large_object_is_as_the_paper_has_it():
    rows, columns = np.mgrid[:700, :900]
    disc = np.hypot(rows - 300, columns - 500) < 200
    disc[5, 5] = True  # a speck that nearest neighbour leaves out
    nearest = np.asarray(Image.fromarray(disc.astype(np.uint8)).resize((96, 96), Image.Resampling.NEAREST)) > 0
    np.testing.assert_array_equal(resize_mask(disc, 96), nearest)
    assert not nearest[0].any()
