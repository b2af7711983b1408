"""The page in a real browser, from the first box to the exported command."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from app_server import TOKEN, running
from fscs_sdk.cli import main
from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.images import read_image, read_mask
from test_app_workspace import jpeg

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
AXE = Path(__file__).parent / "data" / "axe" / "axe.min.js"
SCREENSHOTS = os.environ.get("FSCS_SCREENSHOTS")
WAIT = 60_000  # milliseconds: the machine may be busy with other things


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if os.environ.get("FSCS_BROWSER") == "required":
            pytest.fail("there is no chromium; .ci/browser installs it")
        pytest.skip("there is no chromium; install it to test the page")
    from playwright.sync_api import sync_playwright  # of the extra 'test'

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def server(tmp_path, model):
    with running(tmp_path / "pets", model) as found:
        yield found


@pytest.fixture(scope="module")
def demo(tmp_path_factory, model):
    """A server whose workspace holds the demo, answered, and a photo with none of the classes."""
    with running(tmp_path_factory.mktemp("demo") / "pets", model) as found, found.client() as client:
        client.post("/api/demo").raise_for_status()
        dog = next(photo for photo in client.get("/api/workspace").json()["photos"] if photo["name"] == "dog.jpg")
        client.put(f"/api/photos/{dog['id']}/negative").raise_for_status()
        found.settled(client)
        yield found


@pytest.fixture
def open_page(browser, server):  # the server ends after its pages
    """Opens a server's page in a window of its own; what goes wrong in its scripts fails the test."""
    contexts, errors = [], []

    def open_page(server, *, bad_answers=(), **options):
        options = {"viewport": {"width": 1280, "height": 820}, "reduced_motion": "reduce", **options}
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: errors.append(str(error)))
        expected = re.compile("|".join(f"status of {status}" for status in bad_answers) or "(?!)")
        page.on(
            "console",
            lambda said: (
                said.type == "error"
                and not expected.search(said.text)
                and errors.append(f"{said.text} {said.location}")
            ),
        )
        page.goto(f"{server.url}/?token={TOKEN}")
        page.wait_for_selector("body:not(:has(noscript:only-child))")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors, "\n".join(errors)


def shot(page, name):
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS, f"{name}.png"))


def tell(capsys, text):
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


def choose(page, *paths):
    page.set_input_files("#files", [*paths])
    for path in paths:
        page.locator(".tile", has_text=Path(path).name).first.wait_for()


def drag(page, begin, end, steps=8):
    """With the mouse, between two places of the photo given as shares of its width and height."""
    box = photo_box(page)
    at = lambda place: (box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"])  # noqa: E731
    page.mouse.move(*at(begin))
    page.mouse.down()
    page.mouse.move(*at(end), steps=steps)
    page.mouse.up()


def photo_box(page):
    """Where the editor shows the photo: in the middle, with a margin of 24 pixels of the screen, at its own aspect."""
    width, height, ratio = page.evaluate(
        """() => {
          const { width, height } = document.querySelector(".surface").dataset;
          return [Number(width), Number(height), devicePixelRatio];
        }"""
    )
    box, margins = page.locator(".surface").bounding_box(), 48 / ratio
    scale = min((box["width"] - margins) / width, (box["height"] - margins) / height)
    return {
        "x": box["x"] + (box["width"] - width * scale) / 2,
        "y": box["y"] + (box["height"] - height * scale) / 2,
        "width": width * scale,
        "height": height * scale,
    }


def mark(page, name, begin, end):
    """Name the class, draw a box, and wait for the outline."""
    if name:
        page.fill(".naming", name)
    drag(page, begin, end)
    page.locator(".editor:not(.working) .saved", has_text="Draft kept").wait_for()


def answered(page, count):
    page.locator(".tile:not(.waiting) .chips").nth(count - 1).wait_for()
    page.locator(".tile.waiting").first.wait_for(state="detached")


def test_from_photos_to_the_exported_command(open_page, server, tmp_path, capsys):
    page = open_page(server)
    page.locator(".welcome").wait_for()
    shot(page, "1-welcome")
    choose(page, SUPPORTS["cat"][0], *(PHOTOS / name for name in QUERIES))
    page.get_by_text("Mark one example").wait_for()
    shot(page, "2-photos")

    page.locator(".tile", has_text="cat_support.jpg").locator("button").click()
    mark(page, "cat", (0.31, 0.17), (0.69, 0.93))
    shot(page, "3-suggested")
    page.get_by_role("button", name="Save example").click()
    truth = read_mask(SUPPORTS["cat"][1], size=read_image(SUPPORTS["cat"][0]).shape[:2])
    answered(page, 8)
    saved = read_mask(server.root / "supports" / "cat" / "cat_support_mask.png", size=truth.shape)
    assert (saved & truth).sum() / (saved | truth).sum() > 0.85
    shot(page, "4-answers")
    for name, classes in QUERIES.items():
        chip = page.locator(".tile", has_text=name).first.locator(".chip").first
        assert ("present" in chip.get_attribute("class")) == ("cat" in classes), name

    with server.client() as client:
        before = client.get("/api/workspace").json()["state"]
    page.locator(".tile", has_text="dog.jpg").locator("button").click()
    page.locator(".viewer .row").first.wait_for()
    shot(page, "5-viewer")
    page.get_by_role("button", name="Not there").click()
    page.get_by_role("button", name="Not there", pressed=True).wait_for()
    page.keyboard.press("Escape")
    answered(page, 8)
    page.locator(".tile", has_text="cat_query.jpg").locator("button").click()
    page.get_by_role("button", name="Mend cat").click()
    page.locator(".editor").wait_for()
    page.keyboard.press("b")
    drag(page, (0.32, 0.17), (0.34, 0.2))
    page.locator(".saved", has_text="Draft kept").wait_for()
    shot(page, "6-mended")
    page.get_by_role("button", name="Save example").click()
    page.get_by_text("2 examples").wait_for()
    answered(page, 8)
    with server.client() as client:
        found = server.settled(client)
    assert found["state"] != before
    assert [photo["name"] for photo in found["negatives"]] == ["dog.jpg"]

    page.get_by_label("Areas follow the photo's edges").uncheck()
    with server.client() as client:
        end = time.monotonic() + 60
        while found["state"].endswith("-edges") and time.monotonic() < end:
            found = server.settled(client)
    answered(page, 8)

    page.get_by_role("button", name="Take along").click()
    page.get_by_text("The same in the terminal").wait_for()
    shot(page, "7-take-along")
    with page.expect_download() as download:
        page.get_by_role("button", name="Answers as ZIP").click()
    assert download.value.suggested_filename == "answers.zip"
    page.get_by_text("fscs predict").wait_for()
    line = page.locator("pre code").first.text_content()
    page.keyboard.press("Escape")
    words = line.split()
    assert words[:2] == ["fscs", "predict"]
    result = CliRunner().invoke(main, words[1:])
    assert result.exit_code == 0, result.output
    for photo in found["photos"]:
        mask = np.array(Image.open(server.root / "results" / f"{photo['name']}.mask.png"))
        assert photo["answer"]["present"] == [bool(mask.any())]
        tile = page.locator(f".tile[data-id='{photo['id']}']")
        tile.scroll_into_view_if_needed()
        shown = tile.locator("img.areas")
        assert shown.is_visible() == bool(mask.any())
        if mask.any():
            response = page.request.get(server.url + shown.get_attribute("src"))
            areas = np.array(Image.open(BytesIO(response.body())))[:, :, 3] > 0
            small = np.array(Image.fromarray(mask).resize(areas.shape[::-1], Image.Resampling.NEAREST)) > 0
            assert (areas == small).mean() > 0.99


def test_a_slider_answers_in_the_page_without_a_request(open_page, demo):
    page = open_page(demo)
    answered(page, 9)
    dog = page.locator(".tile", has_text="dog.jpg")
    slider = page.get_by_label("Threshold of cat: the score from which it is present")
    slider.focus()
    page.wait_for_timeout(500)  # the maps are fetched when the slider gets the focus
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    assert "no cat" in dog.locator(".chips").text_content()
    slider.evaluate("(input) => { input.value = 0.01; input.dispatchEvent(new Event('input')); }")
    dog.locator(".chip.present", has_text="cat").wait_for()
    assert dog.locator("canvas.areas").is_visible()
    assert asked == []
    slider.evaluate("(input) => input.dispatchEvent(new Event('change'))")  # let go: now the files follow
    dog.locator("canvas.areas").wait_for(state="hidden")
    page.get_by_role("button", name="Unsure first").click()
    names = page.locator(".tile .file").all_text_contents()
    assert "cat_support.jpg" not in names  # what is an example is not in doubt
    assert len(names) == 6
    page.get_by_role("button", name="Reset").click()
    with demo.client() as client:
        demo.settled(client)


def test_the_keyboard_alone_is_enough(open_page, server):
    page = open_page(server)
    choose(page, SUPPORTS["cat"][0], PHOTOS / "cat_query.jpg", PHOTOS / "coffee.jpg")
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keyboard").wait_for()
    shot(page, "help")
    page.keyboard.press("Escape")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.className") == "picture":
            break
    page.keyboard.press("End")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert "cat_support" in page.evaluate("() => document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    page.locator(".editor").wait_for()
    page.keyboard.type("cat")
    page.keyboard.press("Enter")
    for key in ("ArrowLeft", "ArrowUp"):  # from the middle to the corner of a box
        for _ in range(5):
            page.keyboard.press(f"Shift+{key}")
    page.keyboard.press("Space")
    for key in ("ArrowRight", "ArrowDown"):
        for _ in range(11):
            page.keyboard.press(f"Shift+{key}")
    page.keyboard.press("Space")
    page.locator(".editor:not(.working) .saved", has_text="Draft kept").wait_for()
    page.keyboard.press("b")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    page.keyboard.press("z")
    page.keyboard.press("Control+s")
    answered(page, 3)
    page.locator(".tile .picture").first.focus()
    page.keyboard.press("Enter")
    page.locator(".viewer .row").wait_for()
    page.keyboard.press("1")
    assert page.get_by_label("Map of cat").is_checked()
    page.keyboard.press("r")  # right: and on to the next one, which is the example
    page.get_by_role("heading", name="cat_support.jpg").wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="coffee.jpg").wait_for()
    page.keyboard.press("n")
    page.get_by_role("button", name="Not there", pressed=True).wait_for()
    page.keyboard.press("Escape")
    page.locator(".picture[aria-label^='coffee']:focus").wait_for()
    with server.client() as client:
        found = client.get("/api/workspace").json()
    assert [photo["name"] for photo in found["photos"] if photo["confirmed"]] == ["cat_query.jpg"]
    assert [photo["name"] for photo in found["negatives"]] == ["coffee.jpg"]


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_nothing_is_cut_off_and_a_finger_draws(open_page, demo, width):
    page = open_page(
        demo, viewport={"width": width, "height": 760}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    answered(page, 9)
    within = "() => document.scrollingElement.scrollWidth <= innerWidth"
    assert page.evaluate(within)
    shot(page, f"phone-{width}-answers")
    page.locator(".tile", has_text="cat_query.jpg").locator("button").tap()
    page.locator(".viewer .row").first.wait_for()
    assert page.evaluate(within)
    shot(page, f"phone-{width}-viewer")
    page.get_by_role("button", name="Mend cat").tap()
    page.locator(".editor .surface").wait_for()
    page.get_by_role("button", name="Eraser").tap()
    box = photo_box(page)
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.6)
    page.locator(".saved", has_text="Draft kept").wait_for()
    assert page.evaluate(within)
    shot(page, f"phone-{width}-editor")
    buttons = [
        page.get_by_role("button", name=name, exact=True)
        for name in ("Save example", "Close", "Brush", "Move", "Undo", "Redo", "Whole photo")
    ]
    for control in [*buttons, page.get_by_label("Size of the brush in pixels")]:
        spot = control.bounding_box()
        assert spot["x"] >= 0
        assert spot["x"] + spot["width"] <= width + 1
        assert spot["y"] + spot["height"] <= 761


class Fingers:
    """Touches of a real browser: places of the page by finger."""

    def __init__(self, page):
        self.session, self.down = page.context.new_cdp_session(page), {}

    def send(self, kind, **places):
        """``kind`` is Start, Move or End; fingers that are not named stay where they are."""
        for finger, place in places.items():
            self.down[finger] = place
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(self.down.values())]
        if kind == "End":
            points = []
            self.down = {}
        self.session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    def tap(self, x, y):
        self.send("Start", one=(x, y))
        self.send("End")


def edit_with_fingers(open_page, server):
    """The editor of a photo on a phone, with the brush, and where the photo is."""
    page = open_page(
        server, viewport={"width": 390, "height": 760}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    choose(page, PHOTOS / "dog.jpg")
    page.locator(".tile button").first.tap()
    page.fill(".naming", "dog")
    page.get_by_role("button", name="Brush").tap()
    return page, photo_box(page)


def middle_of_the_saved_mask(page, server):
    """x and y in the photo, in shares of its size."""
    page.locator(".saved", has_text="Draft kept").wait_for()
    page.get_by_role("button", name="Save example").tap()
    page.locator(".class", has_text="dog").wait_for()
    height, width = read_image(PHOTOS / "dog.jpg").shape[:2]
    mask = read_mask(server.root / "supports" / "dog" / "dog_mask.png", size=(height, width))
    rows, columns = np.nonzero(mask)
    return (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height


def test_two_fingers_zoom_and_move_and_leave_no_mark(open_page, server):
    page, box = edit_with_fingers(open_page, server)
    fingers = Fingers(page)
    x, y = box["x"] + 0.4 * box["width"], box["y"] + 0.6 * box["height"]
    fingers.send("Start", one=(x - 40, y))
    fingers.send("Start", two=(x + 40, y))
    for step in range(1, 11):  # twice as far apart, while both go to the right and up
        spread, dx, dy = 40 + 4 * step, 3 * step, -2 * step
        fingers.send("Move", one=(x - spread + dx, y + dy), two=(x + spread + dx, y + dy))
    fingers.send("End")
    assert page.get_by_role("button", name="Undo", disabled=True).is_visible()
    shot(page, "phone-pinched")
    fingers.tap(x + 30 + 50, y - 20)  # 50 to the right of what was between the fingers, at twice the scale
    found = middle_of_the_saved_mask(page, server)
    assert found == pytest.approx((0.4 + 25 / box["width"], 0.6), abs=0.01)


def test_a_photo_stays_in_the_middle_when_the_window_turns(open_page, server):
    page, _ = edit_with_fingers(open_page, server)
    fingers = Fingers(page)
    for width, height in ((760, 390), (390, 760)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(300)
    page.set_viewport_size({"width": 520, "height": 760})
    page.wait_for_timeout(300)
    box = photo_box(page)
    fingers.tap(box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"])
    assert middle_of_the_saved_mask(page, server) == pytest.approx((0.25, 0.75), abs=0.01)


def test_a_long_stroke_stays_when_a_second_finger_comes(open_page, server):
    page, box = edit_with_fingers(open_page, server)
    fingers = Fingers(page)
    at = lambda right: (box["x"] + right * box["width"], box["y"] + 0.5 * box["height"])  # noqa: E731
    fingers.send("Start", one=at(0.3))
    page.wait_for_timeout(500)
    fingers.send("Move", one=at(0.7))
    fingers.send("Start", two=at(0.9))
    fingers.send("End")
    assert middle_of_the_saved_mask(page, server) == pytest.approx((0.5, 0.5), abs=0.01)


def test_a_pen_draws_its_other_end_erases_and_the_hand_that_holds_it_does_nothing(open_page, server):
    page, box = edit_with_fingers(open_page, server)
    fingers = Fingers(page)
    page.evaluate(
        """() => {
          window.seen = [];
          const surface = document.querySelector(".surface");
          for (const type of ["pointerdown", "pointerup"])
            surface.addEventListener(type, (event) => seen.push(`${type} ${event.pointerType} ${event.button}`));
        }"""
    )

    def pen(kind, right, down):
        place = {"x": box["x"] + right * box["width"], "y": box["y"] + down * box["height"]}
        held = {"button": "left", "buttons": 1, "clickCount": 1, "force": 0.6}
        fingers.session.send("Input.dispatchMouseEvent", {"type": kind, "pointerType": "pen", **place, **held})

    pen("mousePressed", 0.2, 0.3)
    for step in range(1, 6):
        pen("mouseMoved", 0.2 + step * 0.06, 0.3)
    fingers.send("Start", palm=(box["x"] + 0.8 * box["width"], box["y"] + 0.9 * box["height"]))
    for step in range(6, 11):
        pen("mouseMoved", 0.2 + step * 0.06, 0.3)
    pen("mouseReleased", 0.8, 0.3)
    fingers.send("End")
    assert page.evaluate("() => seen.filter((each) => each.includes('pen'))") == [
        "pointerdown pen 0",
        "pointerup pen 0",
    ]
    assert page.get_by_role("button", name="Undo", disabled=False).is_visible()
    page.evaluate(
        """({x, y, width, height}) => {
          const surface = document.querySelector(".surface");
          surface.setPointerCapture = () => {};
          const send = (type, right) => surface.dispatchEvent(new PointerEvent(type, {
            pointerId: 77, pointerType: "pen", button: type === "pointermove" ? -1 : 5, buttons: 32, bubbles: true,
            clientX: x + right * width, clientY: y + 0.3 * height,
          }));
          send("pointerdown", 0.1);
          send("pointermove", 0.5);
          send("pointerup", 0.5);
        }""",
        box,
    )
    right, down = middle_of_the_saved_mask(page, server)
    assert down == pytest.approx(0.3, abs=0.02)
    assert right == pytest.approx(0.68, abs=0.03)  # of 0.2 to 0.8 what is right of 0.5 and the brush is left


def test_a_reload_in_mid_work_loses_nothing_and_two_windows_do_no_harm(open_page, server):
    page = open_page(server, bad_answers=[409])
    choose(page, PHOTOS / "dog.jpg")
    page.locator(".tile button").first.click()
    page.fill(".naming", "dog")
    page.keyboard.press("Enter")
    page.keyboard.press("b")
    drag(page, (0.4, 0.4), (0.6, 0.5))
    page.locator(".saved", has_text="Draft kept").wait_for()
    page.reload()
    page.locator(".badge.draft").wait_for()
    page.locator(".tile button").first.click()
    page.get_by_role("button", name="Save example", disabled=False).wait_for()
    assert page.locator(".naming").input_value() == "dog"

    other = open_page(server, bad_answers=[409])
    other.locator(".tile button").first.click()
    other.locator(".editor .surface").wait_for()
    page.keyboard.press("b")
    drag(page, (0.2, 0.2), (0.3, 0.2))
    page.locator(".saved", has_text="Draft kept").wait_for()
    other.keyboard.press("b")
    drag(other, (0.7, 0.7), (0.8, 0.7))
    other.get_by_text("Another window drew on this photo too").wait_for()
    other.get_by_role("button", name="Take theirs").click()
    other.locator(".saved", has_text="Draft kept").wait_for()
    other.get_by_role("button", name="Save example").click()
    other.locator(".class", has_text="dog").wait_for()
    page.get_by_role("button", name="Close").click()
    page.locator(".class", has_text="dog").wait_for()  # the other window's news
    saved = read_mask(server.root / "supports" / "dog" / "dog_mask.png", size=(480, 640))
    assert saved[96, 150]  # the first window's stroke
    assert not saved[336, 480]  # the other's, given up


def test_a_save_waits_for_the_draft_on_its_way_and_is_followed_by_none(open_page, server):
    page = open_page(server)
    choose(page, PHOTOS / "dog.jpg")
    page.locator(".tile button").first.click()
    page.fill(".naming", "dog")
    page.keyboard.press("Enter")
    page.keyboard.press("b")
    held = []
    page.route("**/draft?*", lambda route: route.continue_() if held else held.append(route))  # holds the first
    with page.expect_request("**/draft?*"):
        drag(page, (0.4, 0.4), (0.6, 0.5))
    drag(page, (0.3, 0.7), (0.5, 0.7))  # while the first stroke is on its way
    page.keyboard.press("Control+s")
    held[0].continue_()
    page.locator(".class", has_text="dog").wait_for()
    page.locator(".editor").wait_for(state="detached")
    assert not page.locator(".notice.wrong").count()
    assert not page.locator(".badge.draft").count()
    saved = read_mask(server.root / "supports" / "dog" / "dog_mask.png", size=(480, 640))
    assert saved[336, 256]  # the second stroke


def test_damaged_files_are_named_with_their_reasons_and_the_good_one_beside_them_is_taken(open_page, server, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(jpeg()[:300])
    (tmp_path / "evil.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    for name in ("clip.mp4", "note.jpg", *(f"{number}.pdf" for number in range(8))):
        (tmp_path / name).write_bytes(b"no photo")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "good.jpg").write_bytes(jpeg())
    page = open_page(server, bad_answers=[400])
    page.set_input_files("#files", sorted(path for path in tmp_path.iterdir() if path.is_file()))
    page.locator(".tile", has_text="good.jpg").wait_for()
    page.locator(".notice.wrong").nth(2).wait_for()
    told = page.locator(".notice.wrong span").all_text_contents()
    assert len(told) == 3
    assert [text for text in told if "broken.jpg" in text and "is damaged, cut short" in text]
    assert [text for text in told if text == "'empty.jpg' is empty (0 bytes): save or copy it again"]
    (others,) = [text for text in told if "is not an image" in text]
    assert {"0.pdf", "clip.mp4"} & set(others.replace("'", " ").replace(",", " ").split())
    assert others.endswith("and 2 more")
    assert page.locator(".tile").count() == 1
    shot(page, "damaged")


def test_a_server_that_is_started_again_finds_its_pages(browser, tmp_path, model):
    from fscs_sdk.app.server import bind

    reserved = bind("127.0.0.1", 0, tries=1)
    port = reserved.getsockname()[1]
    reserved.close()
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT)
    with running(tmp_path / "pets", model, port=port) as server:
        page.goto(f"{server.url}/?token={TOKEN}")
        choose(page, PHOTOS / "coffee.jpg")
    page.get_by_text("The server does not answer").wait_for()
    with running(tmp_path / "pets", model, port=port) as server:
        page.get_by_text("The server does not answer").wait_for(state="detached")
        choose(page, PHOTOS / "pagoda.jpg")
        assert page.locator(".tile").count() == 2
        context.close()


def test_sixty_megapixels(open_page, server, tmp_path):
    big = Image.open(SUPPORTS["cat"][0]).resize((10_240, 5_860))
    big.save(tmp_path / "big.jpg", quality=80)
    page = open_page(server)
    choose(page, tmp_path / "big.jpg")
    page.locator(".tile button").first.click()
    mark(page, "cat", (0.31, 0.17), (0.69, 0.93))
    page.mouse.move(640, 400)
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.keyboard.press("0")
    page.get_by_role("button", name="Save example").click()
    page.locator(".chip.present").first.wait_for()
    saved = read_mask(server.root / "supports" / "cat" / "big_mask.png", size=(5860, 10240))
    assert 0.1 < saved.mean() < 0.4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names(open_page, demo, server, scheme):
    page = open_page(server, color_scheme=scheme)
    page.locator(".welcome").wait_for()
    check(page, "welcome")
    shot(page, f"{scheme}-welcome")
    page = open_page(demo, color_scheme=scheme)
    answered(page, 9)
    check(page, "answers")
    shot(page, f"{scheme}-answers")
    page.locator(".tile", has_text="cat_query.jpg").locator("button").click()
    page.locator(".viewer .row").first.wait_for()
    check(page, "viewer")
    shot(page, f"{scheme}-viewer")
    page.get_by_role("button", name="Mend cat").click()
    page.locator(".editor .surface").wait_for()
    check(page, "editor")
    shot(page, f"{scheme}-editor")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Take along").click()
    page.get_by_text("The same in the terminal").wait_for()
    check(page, "take along")
    shot(page, f"{scheme}-take-along")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    check(page, "help")


def check(page, where):
    """Nothing that axe-core finds wrong."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    wrong = [
        (violation["id"], [node["target"] for node in violation["nodes"]][:3], violation["nodes"][0]["failureSummary"])
        for violation in found["violations"]
    ]
    assert not wrong, f"{where}: {wrong}"


def test_the_newcomers_clock_tells_its_steps_and_the_answers(browser, tmp_path):
    for photo in (SUPPORTS["cat"][0], PHOTOS / "cat_query.jpg", PHOTOS / "pagoda.jpg"):
        shutil.copy(photo, tmp_path)
    command = [sys.executable, "-m", "benchmarks.newcomer", str(tmp_path), "--mark", "cat_support.jpg"]
    command += ["--class", "cat", "--box", "0.31", "0.17", "0.69", "0.93"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *steps, whole = re.findall(r"^ *([0-9.]+) s  ", done.stdout, re.M)
    assert len(steps) == 6
    assert sum(map(float, steps)) == pytest.approx(float(whole), abs=0.5)
    assert re.search("^cat_query.jpg: cat[0-9.]+$", done.stdout, re.M)
    assert re.search("^pagoda.jpg: no cat[0-9.]+$", done.stdout, re.M)


def test_figures(open_page, server, capsys, tmp_path):
    """First paint, weight, a stroke's time, and the time from a drop to its answer; printed."""
    with server.client() as client:
        for name, (photo, mask) in SUPPORTS.items():
            identifier = client.post("/api/photos", params={"name": photo.name}, content=photo.read_bytes()).json()[
                "id"
            ]
            runs = runs_of(read_mask(mask, size=read_image(photo).shape[:2]))
            client.put(f"/api/photos/{identifier}/shot", params={"class": name}, content=runs).raise_for_status()
        server.settled(client)
    page = open_page(server)
    answered(page, 2)
    timing = page.evaluate(
        """() => {
          const paint = performance.getEntriesByName("first-contentful-paint")[0].startTime;
          const parts = performance.getEntriesByType("resource").filter(({name}) => name.includes("/static/"));
          const size = parts.reduce((sum, part) => sum + part.encodedBodySize, 0);
          const page = performance.getEntriesByType("navigation")[0].encodedBodySize;
          return {paint, size: size + page, parts: parts.length};
        }"""
    )
    drops = []
    for name in ("dog.jpg", "coffee.jpg", "pagoda.jpg"):
        begun = time.perf_counter()
        page.set_input_files("#files", PHOTOS / name)
        page.locator(".tile:not(.waiting)", has_text=name).locator(".chips").wait_for()
        drops.append(time.perf_counter() - begun)

    Image.open(PHOTOS / "cat_query.jpg").resize((4000, 3000)).save(tmp_path / "twelve.jpg", quality=85)
    choose(page, tmp_path / "twelve.jpg")
    page.locator(".tile", has_text="twelve.jpg").locator("button").click()
    page.get_by_role("button", name="Mark person").click()
    page.locator(".editor .surface").wait_for()
    page.keyboard.press("b")
    strokes = page.evaluate(
        """async () => {
          const surface = document.querySelector(".surface");
          const {left, top, width, height} = surface.getBoundingClientRect();
          const send = (type, x, y) => surface.dispatchEvent(new PointerEvent(type, {
            pointerId: 1, button: type === "pointermove" ? -1 : 0, buttons: 1, bubbles: true,
            clientX: left + x * width, clientY: top + y * height,
          }));
          surface.setPointerCapture = () => {};
          const times = [];
          send("pointerdown", 0.3, 0.4);
          for (let step = 1; step <= 60; step++) {
            const begun = performance.now();
            send("pointermove", 0.3 + 0.4 * step / 60, 0.4 + 0.1 * Math.sin(step / 5));
            times.push(performance.now() - begun);
            await new Promise(requestAnimationFrame);
          }
          send("pointerup", 0.7, 0.4);
          return times;
        }"""
    )
    page.locator(".saved", has_text="Draft kept").wait_for()
    middle = statistics.median(strokes)
    tell(
        capsys,
        f"first paint {timing['paint']:.0f} ms; page {timing['size'] / 1000:.0f} KB in {timing['parts'] + 1} files; "
        f"a stroke's step at 12 megapixels {middle:.1f} ms (median), {sorted(strokes)[-3]:.1f} ms (95 %); "
        f"from drop to answer {min(drops):.2f} s (best of {len(drops)}), {max(drops):.2f} s (worst)",
    )
    assert timing["size"] < 200_000
    assert middle < 16
    assert timing["paint"] < 5_000  # of a machine that may be busy; 1 s is the aim
    assert min(drops) < 5


def runs_of(mask):
    from fscs_sdk.app.runlengths import encode_runs

    return encode_runs(mask)


# ---------------------------------------------------------------------------------- the page's own logic, unit by unit


@pytest.fixture(scope="module")
def units(browser, tmp_path_factory, model):
    """A page in which a script of its own is run: ``units(body)`` with everything of a module imported."""
    with running(tmp_path_factory.mktemp("units") / "work", model) as server:
        page = browser.new_page()
        page.goto(f"{server.url}/?token={TOKEN}")

        def run(module, body, argument=None):
            script = f"async (argument) => {{ const m = await import('/static/{module}.js'); {body} }}"
            return page.evaluate(script, argument)

        yield run
        page.close()


def test_runs_of_the_page_are_runs_of_the_server(units):
    generator = np.random.default_rng(0)
    for size in ((1, 1), (3, 5), (17, 9)):
        for share in (0, 0.2, 0.9, 1):
            mask = generator.random(size) < share
            runs = units(
                "runs", "return [...m.encodeRuns(new Uint8Array(argument))]", mask.ravel().astype(int).tolist()
            )
            assert np.array(runs, dtype="<u4").tobytes() == runs_of(mask)
            back = units(
                "runs", "return [...m.decodeRuns(new Uint32Array(argument[0]), argument[1])]", [runs, mask.size]
            )
            assert back == mask.ravel().astype(int).tolist()
    with pytest.raises(Exception, match="the runs have 3 pixels, not 4"):
        units("runs", "m.decodeRuns(new Uint32Array([1, 2]), 4)")


def test_undo_and_redo_have_no_end_and_a_new_step_ends_the_redo(units):
    told = units(
        "history",
        """const h = new m.History(); const out = [];
        for (let i = 0; i < 5000; i++) h.push(i);
        for (let i = 0; i < 4000; i++) out.push(h.undo());
        out.push(h.redo(), h.canRedo); h.push("new"); out.push(h.canRedo, h.redo() ?? null, h.undo());
        while (h.canUndo) h.undo();
        return [...out.slice(0, 2), ...out.slice(3999), h.undo() ?? null];""",
    )
    assert told == [4999, 4998, 1000, 1000, True, False, None, "new", None]


def test_a_step_taken_back_is_the_mask_before_it_whatever_was_drawn(units):
    script = """
      const mask = new m.Mask(40, 30); const states = [mask.pixels.slice()]; const steps = [];
      const random = (n) => argument.pop() % n;
      for (let i = 0; i < 60; i++) {
        const kind = random(4);
        const ends = [random(60) - 10, random(50) - 10, random(60) - 10, random(50) - 10];
        if (kind === 0) mask.line(...ends, random(9), random(2));
        if (kind === 1) mask.box(...ends, random(2));
        if (kind === 2) mask.polygon([0, 1, 2, 3].map(() => ({x: random(60) - 10, y: random(50) - 10})), random(2));
        if (kind === 3) mask.fill(random(40), random(30));
        const step = mask.settle();
        if (step) { steps.push(step); states.push(mask.pixels.slice()); }
      }
      const same = (one, other) => one.every((value, at) => value === other[at]);
      let well = steps.length > 20;
      for (let i = steps.length - 1; i >= 0; i--) { mask.toggle(steps[i]); well &&= same(mask.pixels, states[i]); }
      for (let i = 0; i < steps.length; i++) { mask.toggle(steps[i]); well &&= same(mask.pixels, states[i + 1]); }
      return well && mask.settle() === null;"""
    assert units("mask", script, np.random.default_rng(0).integers(0, 2**30, 1000).tolist()) is True


def test_a_polygon_is_filled_where_the_middle_of_a_pixel_is_inside(units):
    corners = [(2.2, 1.1), (17.5, 4.0), (12.0, 13.7), (9.0, 6.0), (4.4, 14.9)]
    script = """const mask = new m.Mask(20, 16); mask.polygon(argument.map(([x, y]) => ({x, y})), 1);
      return [...mask.pixels];"""
    found = np.array(units("mask", script, corners)).reshape(16, 20)
    for row in range(16):
        for column in range(20):
            x, y, crossings = column + 0.5, row + 0.5, 0
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
                    crossings += 1
            assert found[row, column] == crossings % 2, (row, column)


def test_a_fill_stays_within_its_outline_and_an_open_area_is_refused(units):
    script = """const mask = new m.Mask(9, 9); mask.box(1, 1, 8, 8, 1); mask.box(3, 3, 6, 6, 0);
      const outside = mask.fill(0, 0); const before = mask.pixels.reduce((a, b) => a + b);
      const hole = mask.fill(4, 4); const after = mask.pixels.reduce((a, b) => a + b);
      const whole = mask.fill(2, 2); return [outside, before, hole, after, whole, mask.isEmpty];"""
    outside, before, hole, after, whole, empty = units("mask", script)
    assert outside is None
    assert (before, after) == (40, 49)
    assert hole == {"left": 3, "top": 3, "right": 6, "bottom": 6}
    assert whole == {"left": 1, "top": 1, "right": 8, "bottom": 8}
    assert empty


def test_zooming_keeps_the_point_under_the_pointer_and_the_photo_in_sight(units):
    script = """
      const photo = {width: 4000, height: 3000}, screen = {width: 900, height: 600};
      const start = m.fit(photo, screen); const out = [start];
      let view = start; const under = m.toPhoto(view, 300, 200);
      for (let i = 0; i < 12; i++) view = m.zoomAt(view, 300, 200, 1.3, photo, screen);
      const still = m.toPhoto(view, 300, 200);
      const back = m.toScreen(view, still.x, still.y);
      let far = view; for (let i = 0; i < 99; i++) far = m.pan(far, 1e4, -1e4, photo, screen);
      let near = start; for (let i = 0; i < 99; i++) near = m.zoomAt(near, 0, 0, 9, photo, screen);
      let small = start; for (let i = 0; i < 99; i++) small = m.zoomAt(small, 0, 0, 0.1, photo, screen);
      const tiny = m.fit({width: 8, height: 8}, {width: 1, height: 1});
      return {start, under, still, back, far, near, small, tiny};"""
    told = units("zoom", script)
    start = told["start"]
    assert start["scale"] == pytest.approx(min(852 / 4000, 552 / 3000))
    assert start["x"] == pytest.approx((900 - 4000 * start["scale"]) / 2)
    assert told["under"] == pytest.approx(told["still"])
    assert told["back"] == pytest.approx({"x": 300, "y": 200})
    assert told["far"]["x"] <= 900 - 24
    assert told["far"]["y"] + 3000 * told["far"]["scale"] >= 24 - 1e-6
    assert told["near"]["scale"] == 40
    assert told["small"]["scale"] == pytest.approx(start["scale"] / 2)
    assert told["tiny"]["scale"] > 0


def test_areas_are_where_a_class_that_is_present_beats_the_background(units):
    maps = {"layers": [[200, 90, 10, 130], [210, 10, 90, 120], [100, 80, 80, 125]]}
    script = "return argument[1].map((present) => [...m.labels({layers: argument[0].layers}, present)])"
    both, first, none = units("maps", script, [maps, [[True, True], [True, False], [False, False]]])
    assert both == [2, 1, 2, 1]
    assert first == [1, 1, 0, 1]
    assert none == [0, 0, 0, 0]
