"""The model card of a Hub repository, made from the manifest's entry."""

from collections.abc import Iterable, Mapping
from typing import Any

from fscs_sdk.weights.manifest import FILE_NAMES, WeightFile

METHODS = {
    "asnet": "ASNet, the network of iFSL (Kang & Cho, CVPR 2022),",
    "asnet-touched": "ASNet, the network of iFSL (Kang & Cho, CVPR 2022), that sees thin supports too,",
}
METRICS = {
    "exact_ratio": "ER %",
    "accuracy": "accuracy %",
    "mean_iou": "mIoU %",
    "foreground_background_iou": "FB-IoU %",
}
TASKS = {
    "FS-CS": "few-shot classification and segmentation: which of some labelled classes are in a photo, and where",
    "FS-S": "few-shot segmentation: where in a photo are the classes that a few labelled photos show",
}
CITATION = """\
```bibtex
@inproceedings{kang2022ifsl,
  title     = {Integrative Few-Shot Learning for Classification and Segmentation},
  author    = {Kang, Dahyun and Cho, Minsu},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2022}
}
```"""


def model_card(name: str, entry: Mapping[str, Any], files: Iterable[WeightFile], repo: str) -> str:
    """A README.md in Markdown with the Hub's YAML front matter.

    Args:
        name, entry: of the manifest.
        files: what the repository holds of weights.
        repo: ``org/repo``.
    """
    option = "" if entry["protocol"] == "paper" else f', protocol="{entry["protocol"]}"'
    trained = "\n".join(f"- {text}" for text in entry["training_data"])
    licences = "\n".join(f"- {role}: {licence}" for role, licence in entry["licence"].items())
    weights = "\n".join(f"| `{FILE_NAMES[file.role]}` | {file.bytes:,} | `{file.sha256}` |" for file in files)
    return f"""\
---
{_front_matter(entry["licence"].values())}
---

# {name}

{METHODS.get(entry["method"], entry["method"])} on {entry["backbone"]}, for {TASKS[entry["task"]]}.
Photos enter as {entry["input_side"]} x {entry["input_side"]} pixels. Trained with: {entry["supervision"]}.

## Use

```python
from fscs_sdk import FewShotSegmenter

model = FewShotSegmenter.from_pretrained("{repo}"{option})
prediction = model.predict("street.jpg", {{"dog": ["dog.jpg", "dog_mask.png"]}})  # one labelled photo of a dog
prediction.present, prediction.mask
```

## How good it is

{_figures(entry["figures"])}

## What it was trained on

{trained}

Recipe: {entry.get("recipe", "not known")}

## Terms and licence

{entry["terms"]}

{licences}

## Files

| file | bytes | SHA-256 |
|---|---|---|
{weights}

## Citation

{CITATION}
"""


def _front_matter(licences: Iterable[str]) -> str:
    """What the Hub reads. Several licences are one of its own kind there."""
    from huggingface_hub import ModelCardData

    identifiers = list(dict.fromkeys(licence.split(" ")[0].lower() for licence in licences))
    known = len(identifiers) == 1 and identifiers[0] != "unknown"
    return ModelCardData(
        license=identifiers[0] if known else "other",
        license_name=None if known else "-and-".join(identifiers),
        license_link=None if known else "LICENSE",
        library_name="fscs-sdk",
        pipeline_tag="image-segmentation",
        tags=["few-shot", "few-shot-segmentation", "image-classification", "asnet", "ifsl"],
    ).to_yaml()


def _figures(figures: Iterable[Mapping[str, Any]]) -> str:
    rows = [_row("benchmark", "method", "ways", "shots", "episodes a fold", *METRICS.values(), "by")]
    rows.append("|---" * rows[0].count(" | ") + "|---|")
    notes = []
    for figure in figures:
        folds = "".join(f" {fold}" for fold in figure.get("folds", ()))
        setting = (f"{figure['benchmark']}{', folds' if folds else ''}{folds}",)
        counts = (figure["ways"], figure["shots"], figure.get("episodes", ""))
        origin = f"us, {figure['measured']}" if "measured" in figure else figure["published"]
        for method, metrics in {"this model": figure, **figure.get("baselines", {})}.items():
            rows.append(_row(*setting, method, *counts, *(metrics.get(key, "") for key in METRICS), origin))
        if "command" in figure:
            notes.append(f"Measured with `{figure['command']}`.")
        if figure.get("classes_seen_in_training"):
            notes.append("Photos of the same classes were in the training data.")
    return "\n".join([*rows, "", *dict.fromkeys(notes)]) if len(rows) > 2 else "Not measured yet."


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"
