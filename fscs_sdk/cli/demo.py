"""``fscs demo``."""

from io import BytesIO
from pathlib import Path

import click


@click.command()
@click.option("--model", default="asnet-mini", show_default=True, help="Model name, folder or .safetensors file.")
@click.option(
    "--out",
    default=Path("demo_output"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the overlays go.",
)
@click.option("--device", default="auto", show_default=True)
def demo(model: str, out: Path, device: str) -> None:
    """Ask real photos: is there a cat, is there a person, and where? (2-way 1-shot, no network needed)"""
    from rich.console import Console
    from rich.table import Table

    from fscs_sdk.atomic import write_atomically
    from fscs_sdk.demo import SUPPORTS, overview, run_demo
    from fscs_sdk.segmenter import FewShotSegmenter

    segmenter = FewShotSegmenter.from_pretrained(model, device=device)
    console = Console()
    names = list(SUPPORTS)
    console.print(f"One labelled photo each of: {', '.join(names)}. Which of them are in these photos, and where?\n")
    table = Table("photo", *names, "right?")
    answers = []
    with console.status("Looking..."):
        for answer in run_demo(segmenter, out):
            answers.append(answer)
            prediction = answer.prediction
            cells = [_presence(prediction.present[name], prediction.scores[name]) for name in names]
            right = {name for name in names if prediction.present[name]} == set(answer.truth)
            table.add_row(answer.query, *cells, "[green]yes[/]" if right else "[red]no[/]")
        picture = BytesIO()
        overview(answers).save(picture, "JPEG", quality=88)
        write_atomically(out / "overview.jpg", picture.getvalue())
    console.print(table)
    console.print(f"\nWhere: see overview.jpg and an overlay for each photo in {out.resolve()}", soft_wrap=True)
    page = "fscs app my-photos/   (pip install 'fscs-sdk\\[app]')"
    console.print(f"Your own photos, on a page in the browser: {page}", soft_wrap=True)


def _presence(present: bool, score: float) -> str:
    return f"[bold]present[/] ({score:.2f})" if present else f"absent  ({score:.2f})"
