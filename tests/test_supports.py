"""Shots and support sets as values: the forms that users write, thresholds, and the file."""

import dataclasses
import itertools
import json
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fscs_sdk import Shot, SupportSet
from fscs_sdk.supports import FORMAT_VERSION, digest, merge_thresholds, parse_supports

quick = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
names = st.text(min_size=1, max_size=8).filter(str.strip)


def support_set(names=("dog", "cat"), shots=(2, 1), seed=0, side=6):
    """A small set of random tensors, as an encoder of one, two and one maps would make it."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(shots)
    tagged = torch.rand(count, generator=generator) < 0.5
    return SupportSet(
        names=tuple(names),
        class_index=torch.repeat_interleave(torch.arange(len(names)), torch.tensor(shots)),
        features=tuple(
            tuple(torch.randn(count, channels, 3, 3, generator=generator) for channels in level)
            for level in ((5,), (4, 3), (2,))
        ),
        masks=(torch.rand(count, side, side, generator=generator) < 0.5) | tagged[:, None, None],
        tagged=tagged,
        thresholds=torch.rand(len(names), generator=generator),
        model="toy@0123456789ab",
        source="made from this",
    )


def assert_same(first, second):
    for field in dataclasses.fields(SupportSet):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if field.name == "features":
            assert [len(level) for level in one] == [len(level) for level in other]
            assert all(map(torch.equal, itertools.chain(*one), itertools.chain(*other)))
        elif isinstance(one, torch.Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
        else:
            assert one == other


# --------------------------------------------------------------------------------------------- what users may write

IMAGE, MASK = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), bool)


def parsed(value):
    (shots,) = parse_supports({"dog": value}).values()
    return [(shot.image, shot.mask) for shot in shots]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a.jpg", "a.png"], [("a.jpg", "a.png")]),
        (("a.jpg", "a.png"), [("a.jpg", "a.png")]),
        (["a.jpg", None], [("a.jpg", None)]),
        (Shot("a.jpg"), [("a.jpg", None)]),
        (Shot("a.jpg", "a.png"), [("a.jpg", "a.png")]),
        ([Shot("a.jpg")], [("a.jpg", None)]),
        ((Shot("a.jpg"), Shot("b.jpg", "b.png")), [("a.jpg", None), ("b.jpg", "b.png")]),
        ([("a.jpg", "a.png")], [("a.jpg", "a.png")]),
        ([["a.jpg", "a.png"], ["b.jpg", "b.png"]], [("a.jpg", "a.png"), ("b.jpg", "b.png")]),
        ([("a.jpg", "a.png"), ["b.jpg", None], Shot("c.jpg")], [("a.jpg", "a.png"), ("b.jpg", None), ("c.jpg", None)]),
        ((["a.jpg", "a.png"], ["b.jpg", "b.png"]), [("a.jpg", "a.png"), ("b.jpg", "b.png")]),
    ],
)
def test_every_form_of_shots(value, expected):
    assert parsed(value) == expected


def test_arrays_are_handed_on_as_they_are():
    ((image, mask),) = parsed([IMAGE, MASK])
    assert image is IMAGE
    assert mask is MASK


def test_classes_keep_their_order_and_any_mapping_will_do():
    from types import MappingProxyType

    classes = MappingProxyType({name: Shot(name) for name in ("b", "a", "c")})
    assert list(parse_supports(classes)) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("supports", "message"),
    [
        ({}, "there are no support classes: give at least one, such as"),
        (None, "supports must be a mapping of class names to shots .* not NoneType"),
        ([("dog", Shot("a"))], "supports must be a mapping of class names to shots .* not list"),
        ({"dog": []}, "class 'dog' has no shots; give at least one, such as"),
        ({"dog": ()}, "class 'dog' has no shots; give at least one, such as"),
        ({"dog": "a.jpg"}, r"supports of class 'dog' must be \[image, mask\].* not str; .* write Shot\(image\)"),
        ({"dog": IMAGE}, r"supports of class 'dog' must be \[image, mask\].* not ndarray; .* write Shot\(image\)"),
        ({"dog": None}, "supports of class 'dog' must be .* not NoneType"),
        ({"dog": {"image": "a.jpg"}}, "supports of class 'dog' must be .* not dict"),
        ({"dog": ["a.jpg"]}, r"shot of class 'dog' must be an \(image, mask\) pair .* is Shot\(image\)"),
        ({"dog": ["a.jpg", "b.jpg", "c.jpg"]}, r"shot of class 'dog' must be an \(image, mask\) pair"),
        ({"dog": [("a.jpg", "a.png"), "b.jpg"]}, r"shot of class 'dog' must be an \(image, mask\) pair"),
        ({"dog": [("a.jpg", "a.png"), []]}, r"shot of class 'dog' must be an \(image, mask\) pair"),
        ({"dog": [[("a.jpg", "a.png")]]}, r"shot of class 'dog' must be an \(image, mask\) pair"),
        ({7: Shot("a")}, "class name must be a non-empty string, not 7"),
        ({None: Shot("a")}, "class name must be a non-empty string, not None"),
        ({b"dog": Shot("a")}, "class name must be a non-empty string, not b'dog'"),
        ({"": Shot("a")}, "class name must be a non-empty string, not ''"),
        ({" \t": Shot("a")}, "class name must be a non-empty string, not ' "),
        ({"dog": Shot("a"), " dog ": Shot("b")}, "class 'dog' is given twice; put all its shots into one list"),
        ({"dog\n": Shot("a"), "dog": Shot("b")}, "class 'dog' is given twice"),
    ],
)
def test_a_wrong_form_is_refused_in_one_sentence(supports, message):
    with pytest.raises(ValueError, match=message) as refused:
        parse_supports(supports)
    assert "\n" not in str(refused.value)


junk = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.binary(max_size=3) | st.builds(Shot, st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, database=None)
@given(junk | st.dictionaries(st.text(max_size=2) | st.integers(), junk, max_size=4))
@example({"dog": [["a", "b"], ["c", "d"]]})
def test_anything_else_is_shots_or_a_value_error(supports):
    try:
        classes = parse_supports(supports)
    except ValueError:
        return
    assert classes
    for name, shots in classes.items():
        assert name.strip() == name != ""
        assert shots
        assert all(isinstance(shot, Shot) for shot in shots)


# -------------------------------------------------------------------------------------------------------- thresholds


@quick
@given(st.data())
def test_thresholds_override_only_those_named(data):
    classes = data.draw(st.lists(names, min_size=1, max_size=5, unique=True))
    default = torch.rand(len(classes))
    before = default.clone()
    given_values = data.draw(st.dictionaries(st.sampled_from(classes), st.floats(0, 1, width=32)))
    merged = merge_thresholds(classes, given_values, default)
    for name, old, new in zip(classes, before.tolist(), merged.tolist(), strict=True):
        assert new == given_values.get(name, old)
    assert torch.equal(default, before)


@given(st.floats().filter(lambda value: not 0 <= value <= 1) | st.sampled_from([True, False, None, "0.5", [0.5], 1j]))
@quick
def test_only_numbers_from_0_to_1_are_thresholds(value):
    for given_value in (value, {"dog": value}):
        with pytest.raises(ValueError, match=r"the threshold of 'dog' is .*; it must be a number from 0 to 1"):
            merge_thresholds(["dog"], given_value, torch.tensor([0.5]))


def test_a_name_is_itself_before_it_is_one_that_looks_like_it():
    merged = merge_thresholds(["A", "a"], {"a": 0.25, "A": 0.75}, torch.zeros(2))
    assert merged.tolist() == [0.75, 0.25]
    assert merge_thresholds(["A"], {"a": 0.25}, torch.zeros(1)).tolist() == [0.25]


def test_an_unknown_class_has_no_threshold():
    with pytest.raises(ValueError, match=r"threshold was given for 'cow', .* not one of the classes \['dog', 'cat'\]"):
        support_set().with_thresholds({"cow": 0.5})


def test_thresholds_make_another_set_of_the_same_tensors():
    supports = support_set()
    before = supports.thresholds.clone()
    other = supports.with_thresholds({"cat": 0.25})
    assert other.thresholds.tolist() == [before[0].item(), 0.25]
    assert torch.equal(supports.thresholds, before)
    assert other.features is supports.features
    assert other.with_thresholds(1).thresholds.tolist() == [1.0, 1.0]


# --------------------------------------------------------------------------------------------------------- the value


def test_another_threshold_is_another_source_and_the_same_one_is_not():
    supports = support_set()
    low = supports.with_thresholds(0.25)
    assert low.source == supports.with_thresholds({"cat": 0.25, "dog": 0.25}).source != supports.source
    assert low.with_thresholds({"dog": 0.25}).source == low.source
    assert supports.with_thresholds({"DOG": 0.25}).source == supports.with_thresholds({"dog": 0.25}).source
    sources = {one.source for one in (supports, low, supports.with_thresholds({"dog": 0.25}), low.with_thresholds(1))}
    assert len(sources) == 4
    unknown = dataclasses.replace(supports, source="")
    assert unknown.with_thresholds(0.25).source == ""


@quick
@given(st.lists(st.lists(st.text(max_size=3) | st.binary(max_size=3), max_size=3), min_size=2, max_size=2))
def test_a_digest_tells_parts_apart(lists):
    first, second = ([np.frombuffer(p, np.uint8) if isinstance(p, bytes) else p for p in parts] for parts in lists)
    assert (digest(*first) == digest(*second)) == (lists[0] == lists[1])
    assert digest(np.zeros((2, 3), np.uint8)) != digest(np.zeros((3, 2), np.uint8)) != digest(np.zeros((3, 2), bool))


def test_a_support_set_is_frozen_and_says_what_it_holds():
    supports = support_set()
    assert len(supports) == 2
    assert repr(supports) == "SupportSet(dog: 2, cat: 1; model toy@0123456789ab)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        supports.names = ("cow",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Shot("a.jpg").mask = "a.png"


# ---------------------------------------------------------------------------------------------------------- the file


@quick
@given(data=st.data())
def test_a_saved_set_is_read_back_exactly(data, tmp_path):
    classes = data.draw(st.lists(names.map(str.strip), min_size=1, max_size=4, unique=True))
    shots = data.draw(st.lists(st.integers(1, 3), min_size=len(classes), max_size=len(classes)))
    supports = support_set(classes, shots, seed=data.draw(st.integers(0, 1000)))
    supports.save(tmp_path / "set.safetensors")
    assert_same(SupportSet.load(tmp_path / "set.safetensors"), supports)


def test_tensors_of_any_layout_are_saved(tmp_path):
    supports = support_set()
    wide = dataclasses.replace(
        supports,
        features=tuple(
            tuple(f.contiguous(memory_format=torch.channels_last) for f in level) for level in supports.features
        ),
        masks=supports.masks[:1].expand(3, -1, -1),
        tagged=supports.tagged[:1].expand(3),
    )
    wide.save(tmp_path / "set.safetensors")
    assert_same(SupportSet.load(tmp_path / "set.safetensors"), wide)


def test_a_path_may_be_a_string_and_nothing_else_is_left_behind(tmp_path):
    supports = support_set()
    supports.save(str(tmp_path / "pets"))
    supports.with_thresholds(0.1).save(tmp_path / "pets")  # replaces
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]
    assert SupportSet.load(str(tmp_path / "pets")).thresholds.tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced")
def test_who_reads_the_old_file_reads_all_of_it(tmp_path):
    supports, path = support_set(), tmp_path / "pets.safetensors"
    supports.save(path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        supports.with_thresholds(0).save(path)
        assert reader.read() == before
    assert path.read_bytes() != before


def test_a_failed_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    supports, path = support_set(), tmp_path / "pets.safetensors"
    supports.save(path)
    before = path.read_bytes()

    def full(descriptor):
        os.ftruncate(descriptor, 100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fscs_sdk.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        supports.with_thresholds(0).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["pets.safetensors"]


def test_an_interrupted_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    supports, path = support_set(), tmp_path / "pets.safetensors"
    supports.save(path)
    before = path.read_bytes()

    def interrupted(descriptor):
        os.ftruncate(descriptor, 4)
        raise KeyboardInterrupt

    monkeypatch.setattr("fscs_sdk.atomic.os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        supports.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["pets.safetensors"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        OSError,
        match=r"cannot write the support set '.*nowhere.pets\.safetensors': there is no folder '.*nowhere'; make it",
    ):
        support_set().save(tmp_path / "nowhere" / "pets.safetensors")


def test_a_folder_in_the_way_is_named(tmp_path):
    with pytest.raises(OSError, match="cannot write the support set '"):
        support_set().save(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OSError, match=r"cannot write the support set '.*locked"):
        support_set().save(folder / "pets.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_saved_set_has_the_permissions_of_any_new_file(tmp_path):
    support_set().save(tmp_path / "pets.safetensors")
    (tmp_path / "plain").touch()
    assert (tmp_path / "pets.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no support set '.*pets\.safetensors'; check the path"):
        SupportSet.load(tmp_path / "pets.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no support set"):
        SupportSet.load(tmp_path)


NOT_A_SET = "is not a support set or is damaged; encode and save it again|is a damaged support set; encode and save it"


@quick
@given(st.data())
def test_a_file_cut_anywhere_is_refused(tmp_path, data):
    path = tmp_path / "pets.safetensors"
    support_set().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=rf"pets\.safetensors' ({NOT_A_SET})"):
        SupportSet.load(path)


@quick
@given(content=st.binary(max_size=200))
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "pets.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"pets\.safetensors' ({NOT_A_SET})"):
        SupportSet.load(path)


@settings(quick, derandomize=True)  # one byte in many thousands makes a set that is only found out later
@given(data=st.data())
def test_a_file_with_broken_bytes_is_read_or_refused(tmp_path, data):
    path = tmp_path / "pets.safetensors"
    support_set().save(path)
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for position in data.draw(st.lists(st.integers(0, header - 1), min_size=1, max_size=3)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        supports = SupportSet.load(path)
    except ValueError as error:
        refusal = str(error)
        assert refusal.startswith(f"'{path}'")
    else:
        assert isinstance(repr(supports), str)


def write(path, tensors, header):
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(tensors, path, None if header is None else {"fscs_support_set": text})


@pytest.fixture
def parts(tmp_path):
    """The tensors and header of a good file."""
    support_set().save(tmp_path / "good.safetensors")
    header = {"format_version": FORMAT_VERSION, "names": ["dog", "cat"], "model": "toy@0123456789ab", "source": "this"}
    return load_file(tmp_path / "good.safetensors"), header


def test_the_parts_of_a_good_file_load(parts, tmp_path):
    """So that the tests below fail for the change that they make."""
    tensors, header = parts
    write(tmp_path / "set", tensors, header)
    assert_same(SupportSet.load(tmp_path / "set"), dataclasses.replace(support_set(), source="this"))
    del header["source"]  # as earlier versions wrote it
    write(tmp_path / "set", tensors, header)
    assert_same(SupportSet.load(tmp_path / "set"), dataclasses.replace(support_set(), source=""))


def test_a_file_of_format_1_is_read_as_it_was_written(parts, tmp_path):
    tensors, header = parts
    write(tmp_path / "set", tensors, header | {"format_version": 1})
    loaded = SupportSet.load(tmp_path / "set")
    assert_same(loaded, dataclasses.replace(support_set(), source="this"))
    assert loaded.calibration is None
    assert loaded.examination is None
    assert loaded.offsets.tolist() == [0, 0]


CALIBRATED = {
    "offsets": torch.zeros(2),
    "cuts": torch.zeros(2),
    "slopes": torch.ones(2),
    "pooled": torch.ones(2, dtype=torch.bool),
}


def test_of_a_calibration_of_format_3_the_shots_are_averaged(parts, tmp_path):
    tensors, header = parts
    write(tmp_path / "set", tensors | CALIBRATED, header)
    assert SupportSet.load(tmp_path / "set").calibration.pooled.tolist() == [True, True]
    old = {name: values for name, values in CALIBRATED.items() if name != "pooled"}
    write(tmp_path / "set", tensors | old, header | {"format_version": 3})
    assert SupportSet.load(tmp_path / "set").calibration.pooled.tolist() == [False, False]


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1.5", None])
def test_another_format_is_refused(parts, tmp_path, version):
    tensors, header = parts
    write(tmp_path / "set", tensors, header | {"format_version": version})
    with pytest.raises(
        ValueError, match=f"set' has support set format {version}, this version reads 1 to {FORMAT_VERSION}; update"
    ):
        SupportSet.load(tmp_path / "set")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "{",
        {"format_version": 1},
        {"format_version": 1, "names": ["dog", "cat"]},
        {"format_version": 1, "names": ["dog"], "model": "toy@0123456789ab"},
        {"format_version": 1, "names": ["dog", "cat", "cow"], "model": "toy@0123456789ab"},
        {"format_version": 1, "names": 2, "model": "toy@0123456789ab"},
        "null",
        "3",
        {"format_version": 1, "names": ["dog", "dog"], "model": "toy@0123456789ab"},
        {"format_version": 1, "names": ["", "cat"], "model": "toy@0123456789ab"},
        {"format_version": 1, "names": "ab", "model": "toy@0123456789ab"},
        {"format_version": 2, "names": ["dog", "cat"], "model": "toy@0123456789ab", "examination": 3},
        {"format_version": 2, "names": ["dog", "cat"], "model": "toy@0123456789ab", "examination": {"suspects": [{}]}},
    ],
)
def test_a_damaged_header_is_refused(parts, tmp_path, header):
    write(tmp_path / "set", parts[0], header)
    with pytest.raises(ValueError, match=f"set' ({NOT_A_SET})"):
        SupportSet.load(tmp_path / "set")


@pytest.mark.parametrize(
    "change",
    [
        {"masks": None},
        {"tagged": None},
        {"class_index": None},
        {"thresholds": None},
        {"level3.0": None},
        {"masks": torch.ones(2, 6, 6, dtype=torch.bool)},
        {"thresholds": torch.ones(3)},
        {"level2.0": torch.ones(5, 2, 3, 3)},
        {"class_index": torch.tensor([0, 0, 2])},
        {"class_index": torch.tensor([0, 0, 0])},
        {"class_index": torch.tensor([-1, 0, 1])},
        {"class_index": torch.tensor([1, 0, 0])},
        {"class_index": torch.tensor([0.0, 0.0, 1.0])},
        {"thresholds": torch.tensor([0.5, float("nan")])},
        {"thresholds": torch.tensor([0.5, 2.0])},
        {"thresholds": torch.tensor([0.5, 0.5], dtype=torch.float64)},
        {"thresholds": torch.tensor([[0.5], [0.5]])},
        {"class_index": torch.tensor([[0], [0], [1]])},
        {"masks": torch.ones(3, 6, 6)},
        {"masks": torch.ones(3, 6, 5, dtype=torch.bool)},
        {"masks": torch.ones(3, 36, dtype=torch.bool)},
        {"tagged": torch.tensor([0, 1, 0])},
        {"level2.0": torch.full((3, 2, 3, 3), float("nan"))},
        {"level4.0": torch.full((3, 5, 3, 3), float("inf"))},
        {"level3.1": torch.ones(3, 3, 3)},
        {"level3.1": torch.ones(3, 3, 3, 3, dtype=torch.int32)},
        {"level3.1": torch.ones(3, 3, 3, 3, dtype=torch.float64)},
        {"offsets": torch.zeros(2)},
        {name: values for name, values in CALIBRATED.items() if name != "pooled"},
        CALIBRATED | {"pooled": torch.ones(2)},
        CALIBRATED | {"pooled": torch.ones(3, dtype=torch.bool)},
        CALIBRATED | {"slopes": torch.zeros(2)},
        CALIBRATED | {"cuts": torch.zeros(3)},
        CALIBRATED | {"cuts": torch.tensor([0.0, float("nan")])},
        CALIBRATED | {"offsets": torch.zeros(2).double()},
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, tmp_path, change):
    tensors, header = parts
    tensors = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    write(tmp_path / "set", tensors, header)
    with pytest.raises(ValueError, match=f"set' ({NOT_A_SET})"):
        SupportSet.load(tmp_path / "set")
