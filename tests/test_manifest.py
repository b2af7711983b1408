"""The manifest says the truth: the schema, the code, the files of the package and the networks agree with it."""

import copy
import json
from hashlib import sha256
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from safetensors import safe_open

from fscs_sdk.checkpoints.head import FORMAT_VERSION
from fscs_sdk.model.backbone import BACKBONES
from fscs_sdk.weights import PACKAGE_FOLDER, backbone_entries, list_models, manifest, read_manifest
from fscs_sdk.weights.manifest import PackageSource, UrlSource, backbone_weights, model_files, parse_file

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "weights_manifest.schema.json").read_text(encoding="utf-8"))
MANIFEST = json.loads((ROOT / "weights_manifest.json").read_text(encoding="utf-8"))
PATTERNS = {
    "name": manifest.PART,
    "path": manifest.PATH,
    "repository": manifest.REPOSITORY,
    "revision": manifest.REVISION,
    "sha256": manifest.SHA256,
    "url": manifest.URL,
    "torchvision_weights": manifest.TORCHVISION_WEIGHTS,
}
TRICKS = [
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "a/..",
    "/etc/passwd",
    "//host/share",
    "a//b",
    "a/",
    "~",
    "~root/x",
    "C:/x",
    "C:x",
    "a\\b",
    "\\\\host\\x",
    "a\0b",
    "a\n",
    "a\nb",
    "a b",
    "a:stream",
    ".hidden",
    "a/.git/config",
    "-option",
    "a.",
    "a/b.",
    "é",
    "a\u202eb",
    "%2e%2e",
    "file:///x",
    "a?b",
    "a*",
]
VALUES = st.text(st.characters(codec="utf-8"), max_size=12) | st.text("aA0_.-+/\\:~ \n\0%?", max_size=12)


def faults(known, root=PACKAGE_FOLDER):
    """What is wrong with a manifest: against the schema, within itself, and against the files of the package."""
    found = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMA).iter_errors(known)]
    if found:
        return found
    files = [(name, file) for name, entry in known["models"].items() for file in entry.get("files", ())]
    files += [
        (name, {"role": "backbone"} | {key: entry[key] for key in ("sha256", "bytes", "sources")})
        for name, entry in known["backbones"].items()
    ]
    for name, entry in files:
        for source in parse_file(entry).sources:
            if isinstance(source, PackageSource):
                found += [f"{name}: {fault}" for fault in _file_faults(root / source.path, entry)]
    for name, entry in known["models"].items():
        roles = [file["role"] for file in entry.get("files", ())]
        if roles and (roles.count("head") != 1 or len(set(roles)) != len(roles)):
            found.append(f"{name}: a head is needed, and one file of a role")
        if entry["backbone"] not in BACKBONES:
            found.append(f"{name}: there is no backbone {entry['backbone']}")
    return found


def _file_faults(path, entry):
    if not path.is_file():
        return [f"{path} is missing"]
    content = path.read_bytes()
    size = [] if len(content) == entry["bytes"] else [f"{path} has {len(content)} bytes"]
    return size if sha256(content).hexdigest() == entry["sha256"] else [*size, f"{path} has another SHA-256"]


def refuses(definition, value):
    """Does the schema refuse a value under one of its definitions?"""
    part = {"$schema": SCHEMA["$schema"], "$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{definition}"}
    return not Draft202012Validator(part).is_valid(value)


# ------------------------------------------------------------------------------------------------- the one that ships


def test_the_manifest_is_what_the_schema_and_the_files_say():
    Draft202012Validator.check_schema(SCHEMA)
    assert faults(MANIFEST) == []


def test_the_code_reads_what_the_schema_allows():
    assert read_manifest() == MANIFEST["models"]
    assert backbone_entries() == MANIFEST["backbones"]
    for name in list_models():
        assert model_files(name)[0].role == "head"
    for name in MANIFEST["backbones"]:
        assert backbone_weights(name).sources
    assert backbone_weights("no-such-backbone") is None


def test_the_embedded_model_is_the_default_and_needs_nothing_but_the_package():
    assert "asnet-mini" in list_models()
    for file in model_files("asnet-mini"):
        assert isinstance(file.sources[0], PackageSource)
    inside = {source["path"] for file in MANIFEST["models"]["asnet-mini"]["files"] for source in file["sources"]}
    assert {f"assets/asnet-mini/{name}.safetensors" for name in ("head", "backbone")} <= inside


def test_every_head_in_the_package_is_the_one_that_is_described():
    for name in list_models():
        entry, head = MANIFEST["models"][name], model_files(name)[0]
        for source in head.sources:
            if isinstance(source, PackageSource):
                with safe_open(PACKAGE_FOLDER / source.path, framework="numpy") as file:
                    described = json.loads(file.metadata()["fscs_head"])
                assert described.pop("adapter")  # what ships has one
                chosen = {"format": FORMAT_VERSION, "threshold": 0.65, "close_up": 0.4}
                assert {key: described.pop(key) for key in chosen} == chosen
                assert described == {key: entry[key] for key in ("method", "backbone", "input_side", "protocol")}


def test_every_backbone_of_the_manifest_is_one_of_the_code():
    assert set(MANIFEST["backbones"]) <= set(BACKBONES)
    for name, entry in MANIFEST["backbones"].items():
        assert tuple(entry["normalisation"]["mean"]) == pytest.approx(BACKBONES[name].mean)
        assert tuple(entry["normalisation"]["std"]) == pytest.approx(BACKBONES[name].std)
    for name, entry in MANIFEST["models"].items():
        assert entry["backbone"] in MANIFEST["backbones"], name
        assert entry["normalisation"] == MANIFEST["backbones"][entry["backbone"]]["normalisation"]
        if "maps" in entry:
            assert tuple(entry["maps"]) == BACKBONES[entry["backbone"]].maps


def test_a_model_and_a_backbone_never_share_a_name():
    assert not set(MANIFEST["models"]) & set(MANIFEST["backbones"])


def test_a_backbone_inside_the_package_is_the_same_wherever_it_is_listed():
    known = {}
    for entry in [
        *MANIFEST["backbones"].values(),
        *(f for m in MANIFEST["models"].values() for f in m.get("files", ())),
    ]:
        for source in entry["sources"]:
            if source["type"] == "package":
                assert known.setdefault(source["path"], entry["sha256"]) == entry["sha256"]


def test_notices_are_there():
    for entry in MANIFEST["models"].values():
        assert "notice" not in entry or (PACKAGE_FOLDER / entry["notice"]).is_file()


# ---------------------------------------------------------------------------------------------- what must be refused


def changed(edit):
    known = copy.deepcopy(MANIFEST)
    edit(known)
    return known


def mini(known):
    return known["models"]["asnet-mini"]


def first_file(known, **fields):
    mini(known)["files"][0].update(fields)


def first_figure(known, **fields):
    mini(known)["figures"][0].update(fields)


CONVERT = {"status": "convert", "convert": {"origin": "the authors", "command": "fscs convert a.ckpt b"}}
WRONG = {
    "another hash": lambda known: first_file(known, sha256="0" * 64),
    "another size": lambda known: first_file(known, bytes=7),
    "a file that is not there": lambda known: first_file(
        known, sources=[{"type": "package", "path": "assets/gone.safetensors"}]
    ),
    "another backbone's hash": lambda known: known["backbones"]["efficientnet_lite0"].update(sha256="0" * 64),
    "no hash": lambda known: first_file(known, sha256=None),
    "a short hash": lambda known: first_file(known, sha256="ab" * 20),
    "no size": lambda known: mini(known)["files"][0].pop("bytes"),
    "no source": lambda known: first_file(known, sources=[]),
    "an unknown source": lambda known: first_file(known, sources=[{"type": "ftp", "url": "ftp://x/y"}]),
    "a plain http source": lambda known: first_file(known, sources=[{"type": "url", "url": "http://x.org/y"}]),
    "a branch": lambda known: first_file(
        known, sources=[{"type": "hub", "repo": "a/b", "file": "c", "revision": "main"}]
    ),
    "an unknown role": lambda known: first_file(known, role="neck"),
    "two heads": lambda known: mini(known)["files"][1].update(role="head"),
    "no files": lambda known: mini(known).pop("files"),
    "a missing field": lambda known: mini(known).pop("training_data"),
    "an unknown field": lambda known: mini(known).update(colour="blue"),
    "an unknown task": lambda known: mini(known).update(task="FS-X"),
    "an unknown backbone": lambda known: mini(known).update(backbone="resnet51"),
    "a fold without its benchmark": lambda known: mini(known).update(fold=1),
    "a licence that is no identifier": lambda known: mini(known)["licence"].update(head="do what you like"),
    "a figure that nobody measured": lambda known: mini(known)["figures"][0].pop("measured"),
    "a figure without its command": lambda known: mini(known)["figures"][0].pop("command"),
    "a figure that is measured and published": lambda known: first_figure(known, published="table 1"),
    "a figure above 100": lambda known: first_figure(known, mean_iou=383),
    "a figure without metrics": lambda known: [
        mini(known)["figures"][0].pop(key) for key in ("exact_ratio", "mean_iou")
    ],
    "a misspelt metric": lambda known: first_figure(known, mean_iuo=38.3),
    "files of a model to convert": lambda known: mini(known).update(CONVERT),
    "a model to convert without the command": lambda known: [
        mini(known).pop("files"),
        mini(known).update(status="convert"),
    ],
    "a command that is another program's": lambda known: [
        mini(known).pop("files"),
        mini(known).update(CONVERT | {"convert": {"origin": "x", "command": "rm -r x"}}),
    ],
    "a model name with a path": lambda known: known["models"].update({"../x": mini(known)}),
    "a backbone from a URL that nothing checks": lambda known: known["backbones"]["resnet50"].update(
        sources=[{"type": "url", "url": "https://x.org/y"}]
    ),
    "a notice elsewhere": lambda known: mini(known).update(notice="../NOTICE"),
    "no backbones": lambda known: known.pop("backbones"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_entry_that_is_wrong_is_found(case):
    assert faults(changed(WRONG[case]))


def test_a_published_figure_and_a_model_to_convert_are_allowed():
    def edit(known):
        model = copy.deepcopy(mini(known))
        del model["files"]
        figure = {
            "benchmark": "pascal-5i",
            "folds": [0],
            "ways": 1,
            "shots": 1,
            "exact_ratio": 80.1,
            "published": "t. 1",
        }
        model |= CONVERT | {"figures": [figure], "benchmark": "pascal-5i", "fold": 0, "protocol": "authors"}
        known["models"]["theirs"] = model

    assert faults(changed(edit)) == []


def test_a_file_that_changed_in_the_package_is_found(tmp_path):
    for name in ("head", "backbone"):
        path = tmp_path / "assets" / "asnet-mini" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = bytearray((PACKAGE_FOLDER / "assets" / "asnet-mini" / path.name).read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    assert sum("another SHA-256" in fault for fault in faults(MANIFEST, tmp_path)) >= 3


# ------------------------------------------------------------------------------------ names, by schema and by code


def test_the_patterns_of_the_schema_are_those_of_the_code():
    for name, pattern in PATTERNS.items():
        assert SCHEMA["$defs"][name]["pattern"] == rf"^{pattern}$(?!\n)"


def parses(source):
    known = {"role": "head", "sha256": "0" * 64, "bytes": 1, "sources": [source]}
    try:
        parse_file(known)
    except ValueError as error:
        assert "reinstall fscs-sdk" in str(error)  # noqa: PT017 (what it raises and what it gives are both looked at)
        return False
    return True


@pytest.mark.parametrize("trick", TRICKS)
def test_path_tricks_are_refused_everywhere(trick):
    for source in (
        {"type": "package", "path": trick},
        {"type": "hub", "repo": "org/repo", "file": trick},
        {"type": "hub", "repo": f"org/{trick}", "file": "x"},
        {"type": "hub", "repo": trick, "file": "x"},
        {"type": "hub", "repo": "org/repo", "file": "x", "revision": trick},
        {"type": "torchvision", "weights": trick},
        {"type": trick, "path": "x"},
    ):
        assert not parses(source), source
        assert refuses("source", source), source
    assert refuses("name", trick)


@given(VALUES)
@example("a\n")
@example("assets/asnet-mini/head.safetensors")
def test_schema_and_code_agree_on_paths_and_no_path_leaves_its_folder(path):
    source = {"type": "package", "path": path}
    assert parses(source) != refuses("source", source)
    if parses(source):
        for kind in (PurePosixPath, PureWindowsPath):
            joined = kind("/folder") / path
            assert joined.parts[: len(kind("/folder").parts)] == kind("/folder").parts
            assert joined.parts[len(kind("/folder").parts) :] == tuple(path.split("/"))
            assert ".." not in joined.parts


@given(VALUES, VALUES, st.none() | VALUES)
def test_schema_and_code_agree_on_the_hub(repo, file, revision):
    source = {"type": "hub", "repo": repo, "file": file, "revision": revision}
    assert parses(source) != refuses("source", source)


@given(st.sampled_from(["https", "http", "HTTPS", "ftp", "file", ""]), VALUES, VALUES)
@example("https", "zenodo.org", "records/1/files/x.safetensors?download=1")
@example("http", "127.0.0.1:80", "x")
@example("http", "127.0.0.1@evil.org", "x")
@example("http", "localhost.evil.org", "x")
@example("https", "evil.org\\@good.org", "x")
def test_schema_and_code_agree_on_urls(scheme, host, path):
    url = f"{scheme}://{host}/{path}"
    source = {"type": "url", "url": url}
    assert parses(source) != refuses("source", source)
    if parses(source):
        assert scheme == "https" or (scheme == "http" and host.partition(":")[0] in ("127.0.0.1", "localhost"))
        assert "@" not in url
        assert "/" not in UrlSource(url).file


@pytest.mark.parametrize(
    "url",
    [
        "https://x.org/y.safetensors",
        "https://x.org:8443/a/b-1.safetensors?download=1&v=2",
        "http://127.0.0.1:8000/y",
        "http://localhost/y",
    ],
)
def test_ordinary_urls_are_allowed(url):
    assert parses({"type": "url", "url": url})
    assert not refuses("url", url)


@pytest.mark.parametrize(
    "url", ["https://x.org", "https://x.org/", "https://user@x.org/y", "https://x.org/../y", "https://x.org/y#z", "x/y"]
)
def test_other_urls_are_refused(url):
    assert not parses({"type": "url", "url": url})
    assert refuses("url", url)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | VALUES, lambda v: st.lists(v) | st.dictionaries(VALUES, v))
)
@example({"role": "head"})
@example({"role": [], "sha256": 1, "bytes": True, "sources": "abc"})
@example({"role": "head", "sha256": "0" * 64, "bytes": 1, "sources": [{"type": []}]})
@example({"role": "head", "sha256": "0" * 64, "bytes": 1, "sources": ["abc"], "more": 1})
def test_an_entry_of_any_shape_is_refused_in_a_sentence(value):
    with pytest.raises(ValueError, match="reinstall fscs-sdk"):
        parse_file(value)
