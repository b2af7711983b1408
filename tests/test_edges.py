"""A map follows the photo's edges, is left alone where there are none, and any photo's size is taken."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.edges import boundary_f
from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS, SUPPORTS
from fscs_sdk.folder import predict_folder
from fscs_sdk.images import read_mask, resize_image
from fscs_sdk.model import edges
from fscs_sdk.model.ifsl import Maps


def follow(photo: Tensor, plane: Tensor) -> Tensor:
    """One map (h, w) at the photo's size, following its edges."""
    return Maps((plane[None],), tuple(photo.shape[:2]), edges=of(photo)).probabilities()[0][0]


def of(photo: Tensor, side: int = 288) -> edges.Edges:
    return edges.Edges(photo, torch.from_numpy(resize_image(photo.numpy(), side)))


def two_tone(height: int, width: int, column: int) -> Tensor:
    """A photo that is dark left of a column and bright from it on."""
    photo = torch.full((height, width, 3), 40, dtype=torch.uint8)
    photo[:, column:] = torch.tensor([200, 180, 90], dtype=torch.uint8)
    return photo


def blurred_step(side: int, place: float) -> Tensor:
    """A map that rises from 0 to 1 over a fifth of the photo, around ``place`` of its width."""
    x = torch.linspace(0, 1, side)
    return ((x - place) * 5 + 0.5).clamp(0, 1).expand(side, side).contiguous()


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (97, 1201)])
def test_a_blurred_outline_goes_to_the_edge_of_the_photo(size: tuple[int, int]) -> None:
    height, width = size
    edge = round(width * 0.53)
    found = follow(two_tone(height, width, edge), blurred_step(72, 0.5))
    outline = (found >= 0.5).float().argmax(dim=1)
    assert (outline - edge).abs().max() <= max(1, width // 150)
    before = torch.nn.functional.interpolate(blurred_step(72, 0.5)[None, None], size, mode="bilinear")[0, 0]
    assert ((before >= 0.5).float().argmax(dim=1) - edge).abs().min() >= 0.02 * width


def test_without_edges_in_the_photo_the_outline_stays() -> None:
    flat = torch.full((300, 400, 3), 128, dtype=torch.uint8)
    found = follow(flat, blurred_step(72, 0.5))
    assert abs(int((found[150] >= 0.5).float().argmax()) - 200) <= 4


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_flat_map_stays_flat(value: float) -> None:
    photo = torch.randint(0, 256, (120, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = follow(photo, torch.full((72, 72), value))
    torch.testing.assert_close(found, torch.full((120, 90), value), atol=1e-3, rtol=0)


def test_a_map_without_an_outline_stays_as_it_is() -> None:
    """It can win no pixel, and most classes of a long list have such a map."""
    photo, plane = two_tone(300, 400, 212), 0.49 * blurred_step(72, 0.5)
    assert torch.equal(follow(photo, plane), Maps((plane[None],), (300, 400)).probabilities()[0][0])


@pytest.mark.parametrize("pieces", [(64, 100), (7, 33)])
def test_pieces_change_nothing(pieces: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    photo = two_tone(700, 900, 500)
    monkeypatch.setattr(edges, "PIECE_ROWS", 700)
    monkeypatch.setattr(edges, "PIECE_COLUMNS", 900)
    whole = follow(photo, blurred_step(72, 0.5))
    monkeypatch.setattr(edges, "PIECE_ROWS", pieces[0])
    monkeypatch.setattr(edges, "PIECE_COLUMNS", pieces[1])
    torch.testing.assert_close(follow(photo, blurred_step(72, 0.5)), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(60, 1000), (700, 431)])
@pytest.mark.parametrize("side", [272, 289])
def test_what_a_cpu_leaves_out_adds_nothing(size: tuple[int, int], side: int) -> None:
    """All pieces in full, as devices compute them, give what a CPU makes of those that something is added to."""
    generator = torch.Generator().manual_seed(side)
    photo = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator)
    photo[:, : size[1] // 3] //= 4
    planes = torch.zeros(3, 30, 50)
    planes[0, 5:25, 8:17], planes[1, 20:, 40:], planes[2] = 1, 0.9, 0.3
    plain = Maps((planes,), size).probabilities()[0]
    addition = of(photo, side).fit([planes])
    down, across = (edges.Axis.of(length, side, photo.device).weights for length in size)
    levels = photo.permute(2, 0, 1).float()
    expected = torch.stack(
        [
            edges.follow(plane, levels, own, down, across)
            for plane, own in zip(plain, addition.coefficients, strict=True)
        ]
    )
    found = Maps((planes,), size, edges=of(photo, side)).probabilities()[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found[0] - plain[0]).abs().max() > 0.05
    assert torch.equal(found[2], plain[2])


def test_the_grid_lies_on_the_photo() -> None:
    """A colour's step is at the same place on the grid, in the photo and in the map."""
    for side in (272, 287, 384):
        view = two_tone(side, side, side // 2)
        colours, ramp = edges.grid_colours(view), torch.linspace(0, 1, 33).expand(33, 33)
        assert colours.shape == (3, -(-side // 4), -(-side // 4))
        on_grid = edges.on_grid(ramp, side)
        places = edges.Axis.of(side, side, view.device).weights @ on_grid[0]
        torch.testing.assert_close(places[4:-4], torch.linspace(0, 1, side)[4:-4], atol=2e-3, rtol=0)
        border = int((colours[0, 0] > 0.4).float().argmax())
        assert abs(4 * border - side // 2) <= 4
    torch.testing.assert_close(edges.grid_colours(view)[:, 0, 0], torch.full((3,), 40 / 255))


def test_windows_fit_the_object() -> None:
    thin, thick = torch.zeros(72, 72), torch.zeros(72, 72)
    thin[:, 34:36] = 1
    thick[15:57, 15:57] = 1
    assert edges.window_radius(thin) == edges.SMALLEST
    assert edges.window_radius(thick) == edges.LARGEST
    assert edges.window_radius(torch.zeros(72, 72)) == edges.SMALLEST


def test_the_inverse_is_the_inverse() -> None:
    roots = torch.randn(50, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrices = roots @ roots.mT + 1e-2 * torch.eye(3)
    expected = torch.linalg.inv(matrices)
    found = edges.inverses(*(matrices[:, i, j] for i in range(3) for j in range(i, 3)))
    torch.testing.assert_close(found, torch.stack([expected[:, i, j] for i in range(3) for j in range(i, 3)]))


@pytest.mark.parametrize("all_count", [True, False])
def test_the_coefficients_are_those_of_the_paper_in_a_window(monkeypatch: pytest.MonkeyPatch, all_count: bool) -> None:
    """Eqs. 11 and 12 of the guided filter, one window at a time, weighted by how much the colours explain in it."""
    rng = np.random.default_rng(2)
    colours = torch.from_numpy(rng.random((3, 144, 144), dtype=np.float32))
    values = torch.rand(144, 144, generator=torch.Generator().manual_seed(3))
    values = 0.4 * values + 0.6 * colours[0]
    radius = 3
    monkeypatch.setattr(edges, "LITTLE", -1)
    monkeypatch.setattr(edges, "VISIBLE", 0)
    if all_count:
        monkeypatch.setattr(edges, "SOME", -2)
        monkeypatch.setattr(edges, "MUCH", -1)
    else:
        monkeypatch.setattr(edges, "SOME", 0.6)
        monkeypatch.setattr(edges, "MUCH", 0.9)
    added = edges.Windows.of(colours, torch.tensor(radius)).explain(values)
    colours = colours.double()
    expected, offsets, weights = [], [], []
    for row in range(97, 104):
        for column in range(47, 54):  # the windows that hold (100, 50)
            window = (slice(row - radius, row + radius + 1), slice(column - radius, column + radius + 1))
            x = colours[(slice(None), *window)].flatten(1)
            y = values[window].double().flatten()
            centred = x - x.mean(dim=1, keepdim=True)
            covariance = centred @ centred.T / x.shape[1] + edges.EPSILON * torch.eye(3)
            a = torch.linalg.solve(covariance, centred @ (y - y.mean()) / x.shape[1])
            explained = (a @ centred) @ (y - y.mean()) / x.shape[1] / y.var(unbiased=False)
            weight = 1.0 if all_count else float(((explained - 0.6) / 0.3).clamp(0, 1))
            weights.append(weight)
            expected.append(weight * a)
            offsets.append(weight * (y.mean() - a @ x.mean(dim=1)))
    assert all_count or min(weights) < max(weights) < 1
    slope, offset = torch.stack(expected).mean(dim=0), torch.stack(offsets).mean() - np.mean(weights) * values[100, 50]
    torch.testing.assert_close(255 * added[:3, 100, 50].double(), slope, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(added[3, 100, 50].double(), offset, atol=1e-3, rtol=1e-3)


def test_a_map_that_the_colours_do_not_explain_stays_as_it_is() -> None:
    photo = torch.randint(0, 256, (384, 384, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    plane = blurred_step(72, 0.5)
    plain = Maps((plane[None],), (384, 384)).probabilities()[0][0]
    torch.testing.assert_close(follow(photo, plane), plain, atol=2e-3, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 700), st.integers(8, 700), st.integers(2, 100), st.integers(2, 100), st.integers(0, 2**31))
def test_any_size_gives_probabilities(height: int, width: int, rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    photo = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
    found = follow(photo, torch.rand(rows, columns, generator=generator))
    assert found.shape == (height, width)
    assert found.dtype == torch.float32
    assert bool(found.isfinite().all())
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_a_model_that_is_told_to_follows_edges_and_its_presence_stays() -> None:
    plain = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32", edges=False)
    following = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32")
    supports = plain.encode(SUPPORTS)
    before, after = (model.predict(PHOTOS / "cat_query.jpg", supports) for model in (plain, following))
    assert after.scores == before.scores
    assert after.present == before.present
    truth = read_mask(PHOTOS / "cat_query_mask.png", size=before.mask.shape)
    assert overlap(after.class_mask("cat"), truth) > overlap(before.class_mask("cat"), truth)
    best = after.foreground.argmax(axis=0)
    won = (after.foreground.max(axis=0) >= after.background) & after.mask.astype(bool)
    np.testing.assert_array_equal(after.mask[won], best[won] + 1)


def test_one_photo_a_list_and_a_folder_follow_the_same_edges(tmp_path: Path) -> None:
    model = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32")
    supports = model.encode(SUPPORTS)
    photos = [PHOTOS / "cat_query.jpg", PHOTOS / "person_query.jpg"]
    alone = [model.predict(photo, supports) for photo in photos]
    together = model.predict(photos, supports)
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.mask, other.mask)
        assert np.array_equal(one.foreground, other.foreground)
    (tmp_path / "in").mkdir()
    for photo in photos:
        shutil.copy(photo, tmp_path / "in")
    predict_folder(model, tmp_path / "in", supports, tmp_path / "out", formats="mask")
    for photo, one in zip(photos, alone, strict=True):
        found = np.asarray(Image.open(tmp_path / "out" / f"{photo.name}.mask.png"))
        assert np.array_equal(found, one.mask)


def test_a_map_does_not_depend_on_the_other_classes() -> None:
    photo = torch.randint(0, 256, (200, 310, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    planes = torch.rand(7, 40, 40, generator=torch.Generator().manual_seed(6))
    together = Maps((planes,), (200, 310), edges=of(photo)).probabilities()[0]
    for plane, found in zip(planes, together, strict=True):
        assert torch.equal(follow(photo, plane), found)


def test_nobody_waits_for_a_device() -> None:
    """Where values cannot be read at all, nothing asks for one."""
    photo, view = (torch.zeros(*size, 3, dtype=torch.uint8, device="meta") for size in ((200, 700), (288, 288)))
    planes = torch.zeros(3, 40, 40, device="meta")
    found = Maps((planes,), (200, 700), edges=edges.Edges(photo, view))
    foreground, background = found.probabilities()
    assert foreground.shape == (3, 200, 700)
    assert background.shape == found.mask(torch.ones(3, dtype=torch.bool, device="meta")).shape == (200, 700)


def overlap(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_an_outline_near_the_other_counts() -> None:
    truth, known = np.zeros((60, 60), bool), np.ones((60, 60), bool)
    truth[20:40, 20:40] = True
    moved = np.roll(truth, 1, axis=1)
    far = np.roll(truth, 15, axis=0)
    assert boundary_f(truth, truth, known) == boundary_f(moved, truth, known) == 1
    assert 0 < boundary_f(far, truth, known) < 0.5
    assert boundary_f(np.zeros_like(truth), truth, known) == 0
