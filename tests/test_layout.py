"""Who imports whom, what an import costs, and which names are public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fscs_sdk

PACKAGE = Path(fscs_sdk.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
#: What each part may import of ours, wherever in its file the import stands; a name stands for what is below it too.
ALLOWED = {
    "fscs_sdk.images": ("images",),
    "fscs_sdk.weights": ("weights",),
    "fscs_sdk.prediction": ("formats", "spelling"),
    "fscs_sdk.atomic": (),
    "fscs_sdk.locks": (),
    "fscs_sdk.streaming": ("prediction",),
    "fscs_sdk.formats": ("atomic", "formats", "prediction"),
    "fscs_sdk.spelling": (),
    "fscs_sdk.video": (),
    "fscs_sdk.calibration": (),
    "fscs_sdk.likeness": (),
    "fscs_sdk.outlines": (),
    "fscs_sdk.examination": ("calibration", "likeness", "model", "outlines", "spelling"),
    "fscs_sdk.supports": ("atomic", "examination", "images", "model", "spelling", "streaming"),
    "fscs_sdk.checkpoints": ("atomic", "checkpoints", "model", "weights"),
    "fscs_sdk.model": ("model",),
    "fscs_sdk.devices": ("model",),
    "fscs_sdk.environment": ("weights",),
    "fscs_sdk.segmenter": (
        *("checkpoints", "devices", "examination", "images", "model", "prediction", "references", "streaming"),
        *("supports", "video", "weights"),
    ),
    "fscs_sdk.folder": (
        *(
            "atomic",
            "folder",
            "formats",
            "images",
            "locks",
            "prediction",
            "references",
            "spelling",
            "supports",
            "video",
        ),
    ),
    "fscs_sdk.app": (
        *("app", "atomic", "demo", "examination", "folder", "formats", "images", "prediction", "references"),
        *("segmenter", "spelling", "supports"),
    ),
    "fscs_sdk.report": ("atomic", "examination", "references", "supports"),
    "fscs_sdk.references": ("formats.mask_png", "images", "references", "spelling", "supports"),
    "fscs_sdk.export": ("atomic", "formats", "model", "segmenter", "supports"),
    "fscs_sdk.integrations": ("folder", "formats", "integrations", "prediction", "segmenter", "supports"),
    "fscs_sdk.evaluation": (
        *("atomic", "checkpoints", "evaluation", "examination", "formats", "images", "locks", "model", "prediction"),
        *("segmenter", "supports"),
    ),
}
#: What is slow to load or need not be there.
HEAVY = (
    "onnx",
    "onnxruntime",
    "ray",
    "cvat_sdk",
    "fiftyone",
    "starlette",
    "uvicorn",
    "torch",
    "numpy",
    "timm",
    "torchvision",
    "cv2",
    "matplotlib",
    "rich",
    "huggingface_hub",
    "PIL",
    "safetensors",
)


def imported(node, module):
    """The modules of ours that an import statement may load, in full."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
        parents = package.split(".")
        source = ".".join([*parents[: len(parents) - node.level + 1], node.module or ""]) if node.level else node.module
        source = source.rstrip(".")
        names = [source, *(f"{source}.{alias.name}" for alias in node.names)]
    else:
        return set()
    return {name for name in names if name in MODULES and name != "fscs_sdk"}


def imports_of(module, *, lazy=True):
    """All modules of ours that a module imports; without ``lazy`` only those that its own import loads."""
    nodes = [ast.parse(MODULES[module].read_text(encoding="utf-8"))]
    found = set()
    while nodes:
        node = nodes.pop()
        found |= imported(node, module)
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if lazy or not (function or checking):
            nodes.extend(ast.iter_child_nodes(node))
    return found


def below(module, parent):
    return module == parent or module.startswith(f"{parent}.")


def test_the_walk_sees_imports_of_every_kind():
    assert "fscs_sdk.formats" in imports_of("fscs_sdk.prediction")
    assert "fscs_sdk.formats" not in imports_of("fscs_sdk.prediction", lazy=False)
    assert {"fscs_sdk.images", "fscs_sdk.checkpoints.assembly"} <= imports_of("fscs_sdk.segmenter", lazy=False)
    for text, expected in {
        "from . import images": "fscs_sdk.images",
        "from .model import asnet": "fscs_sdk.model.asnet",
        "from fscs_sdk import images": "fscs_sdk.images",
        "import fscs_sdk.model.asnet as network": "fscs_sdk.model.asnet",
    }.items():
        assert expected in imported(ast.parse(text).body[0], "fscs_sdk.segmenter")
    assert "fscs_sdk.images" in imported(ast.parse("from ..images import read_image").body[0], "fscs_sdk.model.asnet")


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_the_design_allows(part):
    modules = [module for module in MODULES if below(module, part)]
    assert modules, f"{part} is gone: take it out of ALLOWED"
    for module in modules:
        for other in imports_of(module):
            assert any(below(other, f"fscs_sdk.{name}") for name in ALLOWED[part]), f"{module} imports {other}"


def test_nothing_but_the_command_line_imports_the_training():
    for module in MODULES:
        if not below(module, "fscs_sdk.training") and not below(module, "fscs_sdk.cli"):
            assert not [other for other in imports_of(module) if below(other, "fscs_sdk.training")], module


def test_no_file_name_stands_for_two_things():
    # A command is named after the module that does its work.
    names = [path.stem for module, path in MODULES.items() if not below(module, "fscs_sdk.cli")]
    names += [folder.name for folder in PACKAGE.rglob("*") if (folder / "__init__.py").is_file()]
    twice = {name for name in names if names.count(name) > 1}
    assert twice <= {"__init__", "__main__"}


def test_nothing_imports_the_command_line():
    for module in MODULES:
        if not below(module, "fscs_sdk.cli"):
            assert not [other for other in imports_of(module) if below(other, "fscs_sdk.cli")], module


def test_no_import_comes_back_to_where_it_began():
    waiting = {module: imports_of(module, lazy=False) - {module} for module in MODULES if module != "fscs_sdk"}
    done = set()
    while waiting:
        ready = {module for module, others in waiting.items() if others <= done | {"fscs_sdk"}}
        assert ready, f"these import each other: {sorted(waiting)}"
        done |= ready
        waiting = {module: others for module, others in waiting.items() if module not in ready}


def loaded_by(statement):
    """The modules that a fresh interpreter holds after a statement."""
    command = [sys.executable, "-W", "error", "-c", f"import sys; {statement}; print(*sys.modules)"]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=PACKAGE.parent).stdout.split()


@pytest.mark.parametrize("statement", ["import fscs_sdk", "import fscs_sdk; dir(fscs_sdk)"])
def test_the_package_alone_loads_nothing_heavy(statement):
    loaded = loaded_by(statement)
    assert "fscs_sdk" in loaded
    assert not set(HEAVY) & set(loaded)


def test_the_help_of_the_command_loads_nothing_heavy():
    loaded = loaded_by("import fscs_sdk.cli")
    assert "fscs_sdk.cli" in loaded
    assert not set(HEAVY) & set(loaded)
    assert not set(HEAVY) & set(loaded_by("from fscs_sdk.cli import main; main(['--help'], standalone_mode=False)"))


def test_the_names_of_the_formats_load_nothing_heavy():
    assert not set(HEAVY) & set(loaded_by("from fscs_sdk.formats import WRITERS, select; select(['mask'])"))


def test_the_names_of_the_models_cost_no_torch():
    assert not {"torch", "huggingface_hub"} & set(loaded_by("from fscs_sdk import list_models; list_models()"))


def test_the_segmenter_loads_no_drawing_no_hub_and_no_training():
    loaded = set(loaded_by("from fscs_sdk import FewShotSegmenter"))
    assert "torch" in loaded
    assert not {"cv2", "matplotlib", "rich", "click", "huggingface_hub", "timm", "torchvision"} & loaded
    assert not [module for module in loaded if module.startswith(("fscs_sdk.training", "fscs_sdk.evaluation"))]


def test_the_public_names():
    classes = ["Failure", "FewShotSegmenter", "Prediction", "Shot", "SupportSet"]
    public = [*classes, "__version__", "list_models", "read_supports"]
    assert fscs_sdk.__all__ == public
    assert dir(fscs_sdk) == public
    for name in public:
        assert getattr(fscs_sdk, name) is not None
    assert fscs_sdk.FewShotSegmenter.__module__ == "fscs_sdk.segmenter"
    assert fscs_sdk.__version__.count(".") == 2


def test_every_public_name_can_be_imported_at_once():
    names = {}
    exec("from fscs_sdk import *", names)
    assert set(fscs_sdk.__all__) <= set(names)


@pytest.mark.parametrize("name", ["Segmenter", "_HOMES_", "load_network", "torch"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'fscs_sdk' has no attribute '{name}'"):
        getattr(fscs_sdk, name)
