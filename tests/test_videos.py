"""Videos: frames by their own times, spans, files, going on in the middle, and files that are none."""

import csv
import itertools
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fscs_sdk.folder import plan_folder, predict_folder
from fscs_sdk.folder import videos as video_files
from fscs_sdk.folder.journal import read_journal
from fscs_sdk.folder.spans import GAP, SLACK, Span, find_spans
from fscs_sdk.video import VideoError, capture_frames, is_capture, read_frames
from stub_model import StubModel, StubSupports, write_photo

RED, GREY = (250, 90, 90), (90, 90, 90)  # the stub's first class is there, and is not


def write_video(path: Path, colors, *, rate: float = 10, size=(48, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, rate, size[::-1])
    for red, green, blue in colors:
        writer.write(np.full((*size, 3), (blue, green, red), np.uint8))
    writer.release()
    return path


def frames(path: Path, fps: float = 1000):
    return list(read_frames(str(path), fps=fps, max_pixels=10**6))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Clip:
    """In place of ``cv2.VideoCapture``: frames with these times in seconds, and what its header says."""

    def __init__(self, times, *, count: float = 0, rate: float = 0.0, sizes=itertools.repeat((48, 64))):  # noqa: B008
        self.times, self.sizes = iter(times), iter(sizes)
        self.values = {cv2.CAP_PROP_FRAME_COUNT: count, cv2.CAP_PROP_FPS: rate}

    def isOpened(self):  # noqa: N802
        return True

    def set(self, key, value):
        return True

    def get(self, key):
        return self.values[key]

    def grab(self):
        seconds = next(self.times, None)
        self.values[cv2.CAP_PROP_POS_MSEC] = 0.0 if seconds is None else seconds * 1000
        return seconds is not None

    def retrieve(self):
        return True, np.zeros((*next(self.sizes), 3), np.uint8)

    def release(self):
        pass


def clip_frames(monkeypatch, fps, *arguments, **options):
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: Clip(*arguments, **options))
    return [(frame.number, round(frame.seconds, 3)) for frame in frames(Path("clip.mp4"), fps)]


# ---------------------------------------------------------------------------------------------------------- frames


def test_frames_are_taken_at_a_rate_in_their_colours(tmp_path):
    path = write_video(tmp_path / "a.mp4", [RED] * 5 + [GREY] * 20)
    taken = frames(path, 2)
    assert [frame.seconds for frame in taken] == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert [frame.number for frame in taken] == [0, 1, 2, 3, 4]
    assert np.abs(taken[0].image.mean(axis=(0, 1)) - RED).max() < 12
    assert np.abs(taken[1].image.mean(axis=(0, 1)) - GREY).max() < 12
    assert len(frames(path)) == 25


def test_a_video_that_was_held_upright_is_upright(tmp_path):
    path = write_video(tmp_path / "a.mp4", [RED] * 3)
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 44  # a track's header says how it is to be turned
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 * 65536, 0, 1 << 30)
    path.write_bytes(data)
    assert {frame.image.shape for frame in frames(path)} == {(64, 48, 3)}


def test_times_are_the_file_s_own_at_a_changing_rate(monkeypatch):
    times = [0, 0.04, 0.08, 0.9, 1.02, 1.5, 1.51, 4.2]
    assert clip_frames(monkeypatch, 1, times) == [(0, 0), (1, 1.02), (2, 4.2)]
    assert clip_frames(monkeypatch, 2, times) == [(0, 0), (1, 0.9), (2, 1.02), (3, 1.5), (4, 4.2)]


def test_without_stamps_the_rate_of_the_header_counts(monkeypatch):
    assert clip_frames(monkeypatch, 10, [0] * 5, rate=20) == [(0, 0), (1, 0.1), (2, 0.2)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"times": []}, "holds no frame that can be decoded; record or copy it again"),
        ({"times": [0] * 5}, "says nothing of the times of its frames"),
        ({"times": [0, *[0.1] * 2000]}, "the time of 'clip.mp4' stands still at 0.1 s"),
        ({"times": itertools.count(0, 0.1), "count": 20}, "goes on after the 20 frames that it counts"),
        ({"times": [0, 0.1, 0.2], "count": 100}, "ends after 3 of 100 frames, at 0.2 s: it is cut short or damaged"),
        ({"times": [0, 1], "sizes": [(48, 64), (64, 48)]}, "change their size after 1.0 s"),
        ({"times": [0, 1], "sizes": [(4000, 3000)]}, "has frames of 3000 x 4000 pixels; raise max_pixels"),
    ],
)
def test_what_is_wrong_with_a_video_is_named(monkeypatch, options, said):
    with pytest.raises(VideoError, match=said):
        clip_frames(monkeypatch, 1000, options.pop("times"), **options)


@pytest.mark.parametrize("content", [b"", b"hello" * 100, None, "cut"])
def test_files_that_are_no_videos_are_named(tmp_path, content):
    path = tmp_path / ("a.mp4" if content != "cut" else "a.avi")
    noise = [tuple(color) for color in np.random.default_rng(0).integers(0, 256, (40, 3)).tolist()]
    if content is None:
        write_video(path, [RED] * 30)
        path.write_bytes(path.read_bytes()[:600])
    elif content == "cut":
        write_video(path, noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=r"is no video that can be read here|is cut short or damaged"):
        frames(path)


def test_an_open_capture_gives_all_frames(tmp_path):
    capture = cv2.VideoCapture(str(write_video(tmp_path / "a.mp4", [RED] * 4)))
    assert is_capture(capture)
    assert not is_capture("a.mp4")
    assert [image.shape for image in capture_frames(capture)] == [(48, 64, 3)] * 4
    with pytest.raises(VideoError, match="the video capture is not open"):
        next(capture_frames(cv2.VideoCapture(str(tmp_path / "nowhere.mp4"))))


# ----------------------------------------------------------------------------------------------------------- spans


def test_spans_have_hysteresis():
    scores = [0.1, 0.6, 0.51, 0.45, 0.1, 0.55, 0.9, 0.1, 0.1, 0.1, 0.1, 0.59, 0.6]
    found = find_spans(((number / 2, score) for number, score in enumerate(scores)), 0.6, 0.5)
    assert found == [Span(0.5, 3.5, 0.9), Span(6.0, 6.5, 0.6)]
    assert find_spans([], 0.5, 1) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 3), st.floats(0, 1)), max_size=30), st.floats(0, 1))
def test_spans_hold_every_frame_that_reaches_the_threshold(steps, threshold):
    times = list(itertools.accumulate(step for step, _ in steps))
    moments = list(zip(times, (score for _, score in steps), strict=True))
    found = find_spans(moments, threshold, 0.5)
    for seconds, score in moments:
        inside = [span for span in found if span.start <= seconds < span.end]
        assert score < threshold or inside
        assert score >= threshold - SLACK or all(seconds - span.start > 0 for span in inside)
    for one, other in itertools.pairwise(found):
        assert other.start - one.end > GAP - 1e-9
    for span in found:
        assert (span.start, True) in [(seconds, score >= threshold) for seconds, score in moments]
        assert span.score == max(score for seconds, score in moments if span.start <= seconds < span.end - 1e-9)


# ----------------------------------------------------------------------------------------------------------- a run


@pytest.fixture
def model():
    return StubModel()


def run(model, inputs, out, **options):
    return predict_folder(model, inputs, StubSupports(), out, workers=1, **options)


def test_a_folder_mixes_photos_and_videos(tmp_path, model):
    write_photo(tmp_path / "in" / "a.png")
    write_video(tmp_path / "in" / "sub" / "Clip.MP4", [RED] * 10 + [GREY] * 30 + [RED] * 10)
    plan = plan_folder(model, [tmp_path / "in"], StubSupports(), tmp_path / "out")
    assert [photo.path for photo in plan.todo] == ["a.png", "sub/Clip.MP4"]
    summary = run(model, [tmp_path / "in"], tmp_path / "out", formats=("mask", "csv"))
    assert (summary.answered, summary.well) == (2, True)
    out = tmp_path / "out" / "sub"
    assert sorted(path.name for path in out.iterdir()) == [
        "Clip.MP4.overlay.mp4",
        "Clip.MP4.presence.csv",
        "Clip.MP4.spans.csv",
    ]
    rows = table(out / "Clip.MP4.presence.csv")
    assert [row["seconds"] for row in rows[::2]] == [f"{0.5 * n:.3f}" for n in range(10)]
    assert [row["present"] for row in rows if row["class"] == "bright"] == ["true"] * 2 + ["false"] * 6 + ["true"] * 2
    spans = [(row["start"], row["end"]) for row in table(out / "Clip.MP4.spans.csv") if row["class"] == "bright"]
    assert spans == [("0.000", "1.000"), ("4.000", "5.000")]
    record = read_journal(tmp_path / "out" / "journal.jsonl").records["sub/Clip.MP4"]
    assert record.presence["bright"]
    assert list(record.files) == ["video, 2 a second"]
    assert len(frames(out / "Clip.MP4.overlay.mp4")) == 10
    assert "Clip" not in (tmp_path / "out" / "presence.csv").read_text()


def test_what_is_done_is_not_done_again_unless_the_rate_changes(tmp_path, model):
    path = write_video(tmp_path / "a.mp4", [RED] * 20)
    run(model, [path], tmp_path / "out")
    asked = len(model.asked)
    again = run(model, [path], tmp_path / "out")
    assert (again.answered, again.done_before, len(model.asked)) == (0, 1, asked)
    assert run(model, [path], tmp_path / "out", fps=5).answered == 1
    assert len(table(tmp_path / "out" / "a.mp4.presence.csv")) == 2 * 10
    with pytest.raises(ValueError, match="fps is 0; it must be above 0"):
        run(model, [path], tmp_path / "out", fps=0)


class Stopping(StubModel):
    """Is stopped at its so many-th frame."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def answer(self, image, supports):
        if len(self.asked) > self.at:
            raise KeyboardInterrupt
        return super().answer(image, supports)


@pytest.mark.parametrize("torn", [b"", b'{"frame": 7, "seco', b"[]\n", b'{"frame": 99}\n'])
def test_a_stopped_run_goes_on_in_the_middle_to_the_same_files(tmp_path, model, torn):
    path = write_video(tmp_path / "a.mp4", [RED, GREY] * 15)
    run(model, [path], tmp_path / "whole", fps=10)
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(7), [path], tmp_path / "out", fps=10)
    partial = tmp_path / "out" / "a.mp4.partial.jsonl"
    with partial.open("ab") as file:
        file.write(torn)
    later = StubModel()
    assert run(later, [path], tmp_path / "out", fps=10).well
    assert len(later.asked) == 30 - 7
    for ending in (video_files.OVERLAY, video_files.PRESENCE, video_files.SPANS):
        name = f"a.mp4{ending}"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not partial.exists()


def test_what_a_run_left_of_another_video_or_rate_is_not_used(tmp_path):
    path = write_video(tmp_path / "a.mp4", [RED, GREY] * 15)
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(7), [path], tmp_path / "out", fps=10)
    later = StubModel()
    assert run(later, [path], tmp_path / "out", fps=5).well
    assert len(later.asked) == 15


def test_a_broken_video_is_a_named_failure_and_leaves_nothing(tmp_path, model):
    write_video(tmp_path / "in" / "good.avi", [RED] * 4)
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    summary = run(model, [tmp_path / "in"], tmp_path / "out")
    (failed,) = summary.failed
    assert failed.path == "bad.mp4"
    assert "is no video that can be read here" in failed.error
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert names == ["good.avi.overlay.mp4", "good.avi.presence.csv", "good.avi.spans.csv", "journal.jsonl"]


def test_a_link_in_the_place_of_what_is_kept_is_not_followed(tmp_path, model):
    path = write_video(tmp_path / "a.mp4", [RED] * 4)
    (tmp_path / "out").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for ending in (video_files.PARTIAL, video_files.PARTIAL_OVERLAY):
        (tmp_path / "out" / f"a.mp4{ending}").symlink_to(victim)
    assert run(model, [path], tmp_path / "out").well
    assert victim.read_text() == "mine"
