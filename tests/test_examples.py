"""Every example runs as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "cat" in done.stdout
    with Image.open(tmp_path / "one_shot.png") as overlay:
        assert overlay.mode == "RGB"
    assert len(example.read_text().splitlines()) <= 40
