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
from fscs_sdk.images import read_mask
from fscs_sdk.model import edges
from fscs_sdk.model.ifsl import Maps


def follow(photo: Tensor, plane: Tensor) -> Tensor:
    """One map (h, w) at the photo's size, following its edges."""
    return Maps((plane[None],), tuple(photo.shape[:2]), photo=photo).probabilities()[0][0]


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


def test_pieces_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = two_tone(700, 900, 500)
    monkeypatch.setattr(edges, "TILE_COLUMNS", 900)
    whole = follow(photo, blurred_step(72, 0.5))
    monkeypatch.setattr(edges, "TILE_COLUMNS", 100)
    pieces = follow(photo, blurred_step(72, 0.5))
    assert (whole - pieces).abs().max() <= 2 * edges.UNCHANGED


def test_windows_fit_the_object() -> None:
    thin, thick = torch.zeros(edges.GRID, edges.GRID), torch.zeros(edges.GRID, edges.GRID)
    thin[:, 90:93] = 1
    thick[40:150, 40:150] = 1
    assert edges._radius(thin) == edges.SMALLEST
    assert edges._radius(thick) == edges.LARGEST
    assert edges._radius(torch.zeros(edges.GRID, edges.GRID)) == edges.SMALLEST


def test_the_inverse_is_the_inverse() -> None:
    roots = torch.randn(50, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrices = roots @ roots.mT + 1e-2 * torch.eye(3)
    torch.testing.assert_close(edges._inverse(matrices), torch.linalg.inv(matrices))


@pytest.mark.parametrize("all_count", [True, False])
def test_the_coefficients_are_those_of_the_paper_in_a_window(monkeypatch: pytest.MonkeyPatch, all_count: bool) -> None:
    """Eqs. 11 and 12 of the guided filter, one window at a time, weighted by how much the colours explain in it."""
    rng = np.random.default_rng(2)
    photo = torch.from_numpy(rng.integers(0, 256, (edges.GRID, edges.GRID, 3), dtype=np.uint8))
    values = torch.rand(edges.GRID, edges.GRID, generator=torch.Generator().manual_seed(3))
    values = 0.4 * values + 0.6 * photo[..., 0] / 255
    radius = 3
    if all_count:
        monkeypatch.setattr(edges, "SOME", -2)
        monkeypatch.setattr(edges, "MUCH", -1)
    else:
        monkeypatch.setattr(edges, "SOME", 0.6)
        monkeypatch.setattr(edges, "MUCH", 0.9)
    monkeypatch.setattr(edges, "_radius", lambda _: torch.tensor(radius))
    slope = 255 * edges.Edges(photo, [values[None]])._coefficients[0]
    colours = photo.permute(2, 0, 1).double() / 255
    expected, weights = [], []
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
    assert all_count or min(weights) < max(weights) < 1
    torch.testing.assert_close(slope[:3, 100, 50].double(), torch.stack(expected).mean(dim=0), atol=1e-3, rtol=1e-3)


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
    plain = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32")
    following = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32", edges=True)
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
    model = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32", edges=True)
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
    together = Maps((planes,), (200, 310), photo=photo).probabilities()[0]
    for plane, found in zip(planes, together, strict=True):
        assert torch.equal(follow(photo, plane), found)


def test_nobody_waits_for_a_device() -> None:
    """Where values cannot be read at all, nothing asks for one."""
    photo, planes = torch.zeros(200, 700, 3, dtype=torch.uint8, device="meta"), torch.zeros(3, 40, 40, device="meta")
    found = Maps((planes,), (200, 700), photo=photo)
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
