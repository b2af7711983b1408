"""The docs name what there is: every command, every format, every example."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import fscs_sdk
from fscs_sdk.cli import SECTIONS
from fscs_sdk.formats import WRITERS
from fscs_sdk.weights import read_manifest

ROOT = Path(__file__).parents[1]
COMMANDS = [command for section in SECTIONS.values() for command in section]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_section(command: str) -> None:
    assert f"\n## fscs {command}\n" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def public_names() -> dict[str, set[str]]:
    """Module -> the names that docs/stability.md says are public."""
    rows = re.findall(r"^\| `(fscs_sdk[\w.]*)` \| (.+) \|$", (ROOT / "docs" / "stability.md").read_text("utf-8"), re.M)
    return {module: set(re.findall(r"`(\w+)`", names)) for module, names in rows}


def test_what_is_public_is_there() -> None:
    public = public_names()
    assert public["fscs_sdk"] == set(fscs_sdk.__all__)
    for module, names in public.items():
        if module.startswith("fscs_sdk.integrations."):
            continue  # each needs a package that few have, and has its own tests
        for name in names:
            assert hasattr(import_module(module), name), f"{module}.{name}"


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_uses_public_names_alone(example: Path) -> None:
    public = public_names()
    for node in ast.walk(ast.parse(example.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fscs_sdk"):
            assert {alias.name for alias in node.names} <= public.get(node.module, set()), node.module
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("fscs_sdk.")]


def test_every_format_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for name, format in WRITERS.items():
        assert f"| `{name}` |" in guide
        assert format.ending is None or f"`{format.ending}`" in guide
        assert format.whole_run is None or format.whole_run.split("/")[0] in guide


def test_the_readme_quotes_the_manifests_figures() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("asnet-mini", "asnet-base"):
        figure = read_manifest()[name]["figures"][0]
        assert f"| {name} | {figure['exact_ratio']} | {figure['mean_iou']} |" in text


def test_the_readme_reads_the_same_wherever_it_is_shown() -> None:
    """Links of the package index's page lead to the repository: all are absolute, and what they name is there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    for link in links:
        place = re.fullmatch(
            r"https://(?:github|raw\.githubusercontent)\.com/fscs-sdk/fscs-sdk/(?:blob/)?main/(.+)", link
        )
        assert place, link
        assert (ROOT / place[1]).is_file(), link
    assert len(links) >= 10


def test_no_page_holds_what_a_command_logged() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    logged = [
        page.name for page in pages if re.search(r"^.{0,24}\b(INFO|WARNING) ", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert logged == []
