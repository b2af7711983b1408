import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fscs_sdk.evaluation.episodes import Episode, EpisodeSampler, read_split, well_filled

SHARED = Path(__file__).parents[2] / "shared"
GOLDEN = SHARED / "golden" / "pascal5i_val_episodes.json"
# "a" is listed with two classes, as photos of the field's lists are.
LISTED = "a1 b2 c3 d1 e2 f3 g1 a2 h3 i1"
PAIRS = [(item[0], int(item[1])) for item in LISTED.split()]


@pytest.mark.skipif(not GOLDEN.exists(), reason="the authors' episodes are not here")
def test_episodes_equal_the_authors() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert len(golden) == 12
    for setting, expected in golden.items():
        fold, ways, shots = (int(number) for number in re.findall(r"\d+", setting))
        pairs = read_split(SHARED / "data" / "splits" / "pascal5i" / "val" / f"fold{fold}.txt")
        sampler = EpisodeSampler(pairs, ways=ways, shots=shots)
        assert len(expected) == 60
        for index, wanted in enumerate(expected):
            episode = sampler.episode(index)
            assert episode.query == wanted["query"]
            assert list(episode.classes) == wanted["support_classes"], (setting, index)
            assert [list(photos) for photos in episode.supports] == wanted["supports"], (setting, index)


@pytest.mark.parametrize(
    ("ways", "shots", "index", "expected"),
    [
        (1, 1, 0, Episode("a", 1, (2,), (("b",),))),
        (1, 1, 7, Episode("a", 2, (1,), (("g",),))),
        (2, 1, 25, Episode("f", 3, (3, 1), (("h",), ("g",)))),
        (2, 2, 0, Episode("a", 1, (2, 1), (("b", "e"), ("d", "g")))),
        (3, 2, 25, Episode("f", 3, (3, 2, 1), (("h", "c"), ("a", "b"), ("g", "i")))),
    ],
)
def test_episodes_are_fixed(ways: int, shots: int, index: int, expected: Episode) -> None:
    assert EpisodeSampler(PAIRS, ways=ways, shots=shots).episode(index) == expected


def test_sampling_leaves_the_global_generator_alone() -> None:
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    EpisodeSampler(PAIRS, ways=2, shots=2).episode(11)
    assert np.random.rand() == expected


@settings(deadline=None)
@given(index=st.integers(0, 2**32 - 1), ways=st.integers(1, 3), shots=st.integers(1, 2))
def test_episode_is_well_formed(index: int, ways: int, shots: int) -> None:
    episode = EpisodeSampler(PAIRS, ways=ways, shots=shots).episode(index)
    assert (episode.query, episode.query_class) == PAIRS[index % len(PAIRS)]
    assert len(set(episode.classes)) == len(episode.classes) == len(episode.supports) == ways
    for number, photos in zip(episode.classes, episode.supports, strict=True):
        assert len(set(photos)) == len(photos) == shots
        assert episode.query not in photos
        assert all((photo, number) in PAIRS for photo in photos)


def test_half_of_the_episodes_ask_for_the_listed_class() -> None:
    sampler = EpisodeSampler(PAIRS, ways=1, shots=1)
    episodes = [sampler.episode(index) for index in range(2000)]
    same = np.mean([episode.classes[0] == episode.query_class for episode in episodes])
    assert 0.46 < same < 0.54
    others = [episode.classes[0] for episode in episodes if episode.query_class == 1 != episode.classes[0]]
    assert 0.43 < np.mean([number == 2 for number in others]) < 0.57


TASK_PAIRS = [
    *[(f"both{n}", number) for n in range(4) for number in (1, 2)],
    *[(f"one{n}", 1) for n in range(3)],
    *[(f"three{n}", 3) for n in range(4)],
]


def shown(photo: str) -> set[int]:
    return {number for name, number in TASK_PAIRS if name == photo}


@settings(deadline=None)
@given(index=st.integers(0, 2**32 - 1), ways=st.integers(1, 2), shots=st.integers(1, 3))
def test_fs_s_asks_only_for_classes_of_the_query(index: int, ways: int, shots: int) -> None:
    episode = EpisodeSampler(TASK_PAIRS, ways=ways, shots=shots, task="fs-s").episode(index)
    assert episode.query_class in episode.classes
    assert set(episode.classes) <= shown(episode.query)
    assert len(set(episode.classes)) == ways
    assert all(episode.query not in photos and len(set(photos)) == shots for photos in episode.supports)


@settings(deadline=None)
@given(index=st.integers(0, 2**32 - 1))
def test_fs_c_asks_for_one_class_of_the_query_and_others(index: int) -> None:
    episode = EpisodeSampler(TASK_PAIRS, ways=2, shots=1, task="fs-c").episode(index)
    assert set(episode.classes) & shown(episode.query) == {episode.query_class}
    assert len(episode.classes) == 2


def test_the_place_of_the_present_class_tells_nothing() -> None:
    sampler = EpisodeSampler(TASK_PAIRS, ways=2, shots=1, task="fs-c")
    first = np.mean([e.classes[0] == e.query_class for e in map(sampler.episode, range(1000))])
    assert 0.45 < first < 0.55


def test_tasks_that_the_list_cannot_ask_for_are_errors() -> None:
    with pytest.raises(ValueError, match="no photo with 3 classes, which fs-s"):
        EpisodeSampler(TASK_PAIRS, ways=3, shots=1, task="fs-s")
    with pytest.raises(ValueError, match="no photo with one and without the others of 2 classes, which fs-c"):
        EpisodeSampler([(photo, number) for photo in "abc" for number in (1, 2)], ways=2, shots=1, task="fs-c")


def test_one_class_is_always_asked_for() -> None:
    assert EpisodeSampler([("a", 4), ("b", 4)], ways=1, shots=1).episode(1) == Episode("b", 4, (4,), (("a",),))


def test_too_few_photos_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Class 2 has 3 photos, too few for shots=3"):
        EpisodeSampler(PAIRS, ways=1, shots=3)
    with pytest.raises(ValueError, match=r"Class 1 has 1 photos"):  # one photo listed twice is still one
        EpisodeSampler([("a", 1), ("a", 1)], ways=1, shots=1)


@pytest.mark.parametrize(("ways", "shots"), [(0, 1), (1, 0), (4, 1)])
def test_impossible_settings_are_errors(ways: int, shots: int) -> None:
    with pytest.raises(ValueError, match=f"ways={ways}"):
        EpisodeSampler(PAIRS, ways=ways, shots=shots)


@pytest.mark.parametrize("index", [-1, 2**32])
def test_index_must_be_a_seed(index: int) -> None:
    with pytest.raises(ValueError, match=str(index)):
        EpisodeSampler(PAIRS, ways=1, shots=1).episode(index)


PHOTO_IDS = st.text(st.sampled_from("abc019_-./é"), min_size=1, max_size=12)
WRITTEN = st.lists(st.tuples(PHOTO_IDS, st.integers(1, 999)), min_size=1, max_size=8)


@settings(deadline=None)
@given(pairs=WRITTEN, form=st.sampled_from(["{} {}", "{}\t{}", "{}__{}", "{}__{:02d}"]), end=st.sampled_from("\n "))
def test_split_round_trip(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, int]], form: str, end: str
) -> None:
    path = tmp_path_factory.mktemp("split") / "fold.txt"
    path.write_text("\n".join(form.format(*pair) for pair in pairs) + end, encoding="utf-8")
    assert read_split(path) == pairs


def test_split_reads_both_formats_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "fold.txt"
    path.write_bytes("\ufeff2007_000032__01\r\n\r\n2007_000033 12\r\nx__y 3\r\n".encode())
    assert read_split(str(path)) == [("2007_000032", 1), ("2007_000033", 12), ("x__y", 3)]


@pytest.mark.parametrize(
    "line", ["2007_000032", "photo one 3", "photo -1", "photo 0", "photo__00", "__3", "7", "p 1.5"]
)
def test_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "fold.txt"
    path.write_text(f"good 1\n\n{line}\n")
    with pytest.raises(ValueError, match=r"fold\.txt, line 3: " + re.escape(repr(line))):
        read_split(path)


@settings(deadline=None)
@given(content=st.binary(max_size=60))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("split") / "fold.txt"
    path.write_bytes(content)
    pairs: list[tuple[str, int]] = []
    message = ""
    try:
        pairs = read_split(path)
    except ValueError as error:
        message = str(error)
    assert bool(pairs) != ("fold.txt" in message)
    assert all(photo and number >= 1 for photo, number in pairs)


def test_unreadable_splits_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "fold.txt"
    path.write_text("\n \n")
    with pytest.raises(ValueError, match="lists no photo"):
        read_split(path)
    path.write_bytes(b"caf\xe9 1\n")
    with pytest.raises(ValueError, match="UTF-8"):
        read_split(path)
    with pytest.raises(OSError, match=r"missing\.txt"):
        read_split(tmp_path / "missing.txt")


def test_well_filled_counts_different_photos() -> None:
    pairs = [("a", 1), ("b", 2), ("c", 1), ("b", 2), ("d", 1)]
    assert well_filled(pairs, minimum=2) == [("a", 1), ("c", 1), ("d", 1)]
    assert well_filled(pairs, minimum=1) == pairs
    eight = [(str(photo), 3) for photo in range(8)]
    assert well_filled([*pairs, *eight]) == eight
    assert well_filled(eight[1:]) == []
