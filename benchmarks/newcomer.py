"""``python -m benchmarks.newcomer``: seconds from ``fscs app`` to answers on a folder of photos, in a real browser."""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import click

SWITCHES = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE = 180_000  # milliseconds
#: Milliseconds that a person takes for a letter, and to look before drawing; steps of the mouse while a box is drawn.
LETTER, LOOK, STEPS = 150, 1000, 20


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--mark", required=True, help="Name of the photo to mark.")
@click.option("--class", "name", required=True, help="What is marked in it.")
@click.option("--box", nargs=4, type=float, required=True, help="Around it: left, top, right, bottom, as shares.")
@click.option("--fscs", default=str(Path(sys.executable).with_name("fscs")), help="The command of another environment.")
def main(folder: Path, mark: str, name: str, box: tuple[float, float, float, float], fscs: str) -> None:
    """Do what a newcomer does with FOLDER's photos, and print how long each step takes and every answer."""
    from playwright.sync_api import sync_playwright  # of the extra 'test'

    photos = sorted(folder.iterdir())
    latest = begun = time.perf_counter()

    def step(what: str) -> None:
        nonlocal latest
        before, latest = latest, time.perf_counter()
        click.echo(f"{latest - before:6.1f} s  {what}")

    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as started:
        command = [fscs, "app", str(Path(scratch, "work")), "--no-browser"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            said: Iterable[str] = server.stdout or ()
            address = next(found.group() for line in said if (found := re.search(r"http://\S+", line)))
            page = started.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES).new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(address)
            page.locator(".welcome").wait_for()
            step("fscs app, until the page is there")
            page.set_input_files("#files", [str(photo) for photo in photos])
            page.locator(".tile").nth(len(photos) - 1).wait_for()
            step(f"{len(photos)} photos are dropped")
            page.locator(".tile", has_text=mark).locator("button").first.click()
            page.locator(".naming").type(name, delay=LETTER)
            page.wait_for_timeout(LOOK)
            places = page.evaluate(
                """(box) => {
                  const surface = document.querySelector(".surface");
                  const { left, top, width, height } = surface.getBoundingClientRect();
                  const photo = [Number(surface.dataset.width), Number(surface.dataset.height)];
                  const scale = Math.min((width - 48) / photo[0], (height - 48) / photo[1]);
                  const corner = [left + (width - photo[0] * scale) / 2, top + (height - photo[1] * scale) / 2];
                  return box.map((share, index) => corner[index % 2] + share * photo[index % 2] * scale);
                }""",
                list(box),
            )
            page.mouse.move(*places[:2])
            page.mouse.down()
            page.mouse.move(*places[2:], steps=STEPS)
            page.mouse.up()
            step("a photo is opened, the class named, a box drawn")
            page.locator(".editor:not(.working) .saved", has_text="Draft kept").wait_for()
            step("the outline is suggested")
            page.get_by_role("button", name="Save example").click()
            answers = page.locator(".tile:not(.waiting) .chips")
            answers.first.wait_for()
            step("saved; the first photo is answered")
            answers.nth(len(photos) - 1).wait_for()
            step("all photos are answered")
            click.echo(f"{latest - begun:6.1f} s  together")
            for tile in page.locator(".tile").all():
                click.echo(f"{tile.locator('.file').text_content()}: {tile.locator('.chips').text_content()}")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
