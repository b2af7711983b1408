"""The worst and the typical episodes of an evaluation as pictures, beside the counted causes of all of them."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from re import sub
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fscs_sdk.atomic import write_atomically
from fscs_sdk.evaluation.benchmark import Settings, episode_target, pairs_of
from fscs_sdk.evaluation.datasets import Dataset
from fscs_sdk.evaluation.episodes import Episode, EpisodeSampler
from fscs_sdk.evaluation.failures import GOOD_IOU, Judged, Question, judge, report, typical, worst
from fscs_sdk.evaluation.metrics import IGNORED
from fscs_sdk.evaluation.photo_cache import EncodedPhotos
from fscs_sdk.evaluation.tally import open_journal
from fscs_sdk.formats import class_colors, overlay
from fscs_sdk.formats.lettering import drawable, shorten, typeface
from fscs_sdk.prediction import Prediction
from fscs_sdk.segmenter import FewShotSegmenter

PICTURES, REPORT, SILHOUETTES = "pictures", "failures.md", "silhouettes.png"
#: Height of a strip's panels and the gap between them, and sides of a silhouette's cell, in pixels.
PANEL, GAP = 360, 6
CELL, LINES, COLUMNS = 150, 3, 8
PAPER, INK, OTHERS = (255, 255, 255), (24, 24, 24), (150, 150, 150)
_RANKED = {"worst": worst, "typical": typical}
_EXPLAINED = f"""\
good: the class is there, was found, and the mask's IoU is {GOOD_IOU:g} or more. poor mask: found, with a lower IoU.
missed: there, and answered absent. false alarm: not there, and answered present. Pictures: "worst" are the wrong
presences, those first that missed, or drew for nothing, most of their photo, and then the lowest IoUs; "typical" are
those around the median IoU where a class is there and all presences are right.
"""


def write_pictures(
    out: Path,
    name: str,
    segmenter: FewShotSegmenter,
    dataset: Dataset,
    settings: Settings,
    *,
    folds: Sequence[int | None],
    recorded: Mapping[str, Any],
    count: int,
) -> Path:
    """Draw episodes of a finished evaluation, which are answered once more, and write the report on all.

    Args:
        out: the evaluation's folder; ``pictures/`` in it is for the pictures: of each fold strips (supports, truth,
            answer) of the ``count`` worst and typical episodes, and ``silhouettes.png``, the same without the photos.
        name: what the report calls the model.
        segmenter: the evaluation's first model; of several thresholds the first is taken.
        recorded: what :func:`~fscs_sdk.evaluation.benchmark.describe` said of the evaluation.

    Returns:
        The report, ``pictures/failures.md``.

    Raises:
        ValueError: the task is not ``fs-cs``, an episode is not in the journal, or it is another evaluation's.
        OSError: a photo cannot be read, or a file cannot be written.
    """
    check_task(settings)
    photos = EncodedPhotos(segmenter, dataset, weak=settings.weak)
    delta = settings.thresholds_of(segmenter)[0]
    all_judged = []
    with open_journal(out, recorded) as journal:
        for fold in folds:
            sampler = EpisodeSampler(pairs_of(dataset, fold, settings), ways=settings.ways, shots=settings.shots)
            judged = []
            for index in range(settings.episodes):
                if (fold, index) not in journal.episodes:
                    raise ValueError(f"'{out}' has no episode {index} of fold {fold}; finish the evaluation first")
                episode = sampler.episode(index)
                used = {episode.query, *(photo for supports in episode.supports for photo in supports)}
                labels = {photo: photos.labels(photo) for photo in used}
                judged.append(judge(episode, journal.episodes[fold, index][0], labels))
            title = "all" if fold is None else f"fold{fold}"
            _draw_fold(out / PICTURES / title, judged, _Artist(photos, delta), count)
            all_judged += judged
    path = out / PICTURES / REPORT
    text = f"# Failures of {name}\n\n{_EXPLAINED}\n{report(all_judged, dataset.names)}"
    write_atomically(path, text.encode())
    return path


def check_task(settings: Settings) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ValueError: the task does not ask both for presence and for masks.
    """
    if settings.task != "fs-cs":
        raise ValueError(f"pictures show presence and masks, which {settings.task} does not both ask for; use fs-cs")


class _Artist:
    """Draws one episode at a time."""

    def __init__(self, photos: EncodedPhotos, threshold: float) -> None:
        self.photos, self.threshold = photos, threshold
        self.names = photos.dataset.names

    def strip(self, one: Judged, answer: Prediction) -> Image.Image:
        """Support photos, the query with its true masks, and the query with the answer, side by side."""
        truth = _drawn(answer.image, answer.names, self._truth(one.episode))
        told = list(zip(one.questions, answer.names, strict=True))
        panels = [
            *self._support_panels(one.episode),
            _panel(truth, [f"truth: {self._truth_of(question, name)}" for question, name in told]),
            _panel(answer, [_answer_of(question, name, answer.scores[name]) for question, name in told]),
        ]
        size = sum(panel.width + GAP for panel in panels) - GAP, max(panel.height for panel in panels)
        strip, left = Image.new("RGB", size, PAPER), 0
        for panel in panels:
            strip.paste(panel, (left, 0))
            left += panel.width + GAP
        return strip

    def _support_panels(self, episode: Episode) -> list[Image.Image]:
        panels = []
        for number, shots in zip(episode.classes, episode.supports, strict=True):
            for shot, photo in enumerate(shots, start=1):
                area = (self.photos.labels(photo) == number) & (not self.photos.weak)
                said = f"support: {self.names[number]}{f' {shot}' if len(shots) > 1 else ''}"
                drawn = _drawn(self._image(photo), [self.names[number]], area.astype(np.uint8))
                panels.append(_panel(drawn, [said]))
        return panels

    def silhouette(self, one: Judged, answer: Prediction, title: str) -> Image.Image:
        """The answer's areas filled, the true outlines in black, and other labelled objects' outlines in grey."""
        names = [self.names[question.asked] for question in one.questions]
        truth, labels = self._truth(one.episode), self.photos.labels(one.episode.query)
        shape = _fitted(labels.shape, CELL)
        page = np.full((*shape, 3), 240, np.uint8)
        for number, color in enumerate(class_colors(names), start=1):
            page[_shrunk(answer.mask == number, shape)] = color
        for number in one.questions[0].shown:
            page[_edge(_shrunk(labels == number, shape))] = OTHERS
        for number in range(1, len(names) + 1):
            page[_edge(_shrunk(truth == number, shape))] = INK
        cell = Image.new("RGB", (CELL + 10, CELL + 10 + 16 * LINES), PAPER)
        cell.paste(Image.fromarray(page), ((cell.width - shape[1]) // 2, 5 + (CELL - shape[0]) // 2))
        draw, font = ImageDraw.Draw(cell), typeface(12, "".join(names))
        question = max(one.questions, key=lambda asked: (not asked.right, asked.size > 0, -asked.iou))
        shown = "+".join(self.names.get(number, str(number)) for number in question.shown)
        said = f"IoU {question.iou:.2f}" if question.size else f"photo shows {shown or 'no class'}"
        if question.cause == "missed":
            said = f"{100 * question.size:.0f} % of the photo"
        for row, text in enumerate((title, f"{self.names[question.asked]}: {question.cause}", said)):
            text = shorten(drawable(text), font, cell.width - 10)
            draw.text((5, CELL + 8 + 16 * row), text, fill=INK, font=font)
        return cell

    def answer(self, one: Judged) -> Prediction:
        """What the model says, under the classes' names."""
        episode = one.episode
        supports = self.photos.supports(episode).with_thresholds(self.threshold)
        found = self.photos.segmenter.infer(self.photos.query_of(episode.query, supports), supports)
        names = tuple(self.names[number] for number in episode.classes)
        return Prediction(
            names=names,
            scores=dict(zip(names, found.scores.tolist(), strict=True)),
            present=dict(zip(names, found.present.tolist(), strict=True)),
            foreground=found.foreground.cpu().numpy(),
            background=found.background.cpu().numpy(),
            mask=found.mask.cpu().numpy().astype(np.uint8),
            image=self._image(episode.query),
        )

    def _image(self, photo: str) -> NDArray[np.uint8]:
        return self.photos.dataset.image(photo)

    def _truth(self, episode: Episode) -> NDArray[np.uint8]:
        target, _ = episode_target(self.photos.labels(episode.query), episode.classes, "paper")
        target[target == IGNORED] = 0
        return target

    def _truth_of(self, question: Question, name: str) -> str:
        if question.size:
            return f"{name}, {100 * question.size:.0f} % of the photo"
        shown = " + ".join(self.names.get(number, str(number)) for number in question.shown)
        return f"no {name}, but {shown}" if shown else f"no {name}"


def _draw_fold(folder: Path, judged: Sequence[Judged], artist: _Artist, count: int) -> None:
    """The strips and silhouettes of a fold; those of an earlier run are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind, choose in _RANKED.items():
        for old in folder.glob(f"{kind}-*.png"):
            old.unlink()
        cells = []
        for rank, one in enumerate(choose(judged, count), start=1):
            answer = artist.answer(one)
            query = sub(r"[^\w.-]+", "_", one.episode.query)
            _save(artist.strip(one, answer), folder / f"{kind}-{rank:02d}-{query}.png")
            cells.append(artist.silhouette(one, answer, f"{kind} {rank}"))
        rows += [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    if not rows:  # no presence is wrong, and no class is there
        return
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (width * max(map(len, rows)), height * len(rows)), PAPER)
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            sheet.paste(cell, (column * width, row * height))
    _save(sheet.quantize(64), folder / SILHOUETTES)


def _answer_of(question: Question, name: str, score: float) -> str:
    present = question.cause in ("good", "poor mask", "false alarm")
    iou = f", IoU {question.iou:.2f}" if question.size else ""
    return f"{name}: {'present' if present else 'absent'} ({score:.2f}){iou}"


def _drawn(image: NDArray[np.uint8], names: Sequence[str], mask: NDArray[np.uint8]) -> Prediction:
    """A mask that people drew, in the form that :func:`overlay` draws."""
    there = {name: bool((mask == number).any()) for number, name in enumerate(names, start=1)}
    foreground = np.zeros((len(names), *mask.shape), np.float32)
    return Prediction(tuple(names), dict.fromkeys(names, 1.0), there, foreground, foreground[0], mask, image)


def _panel(drawn: Prediction, captions: Sequence[str]) -> Image.Image:
    picture = Image.fromarray(overlay(drawn, captions=dict(zip(drawn.names, captions, strict=True))))
    photo = drawn.image.shape
    width = max(1, round(PANEL * photo[1] / photo[0]))  # all photos get the height of a panel; legends come below
    return picture.resize((width, max(1, round(picture.height * width / picture.width))))


def _fitted(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    scale = side / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _shrunk(area: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Bool (H, W) -> bool of another shape, averaged, so that thin parts stay where they are at least half."""
    picture = Image.fromarray(area.astype(np.uint8) * 255).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(picture) >= 128


def _edge(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The area's pixels that touch one outside of it, or the photo's end."""
    inner = np.pad(area, 1)
    return area & ~(inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:])


def _save(picture: Image.Image, path: Path) -> None:
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    write_atomically(path, buffer.getvalue())
