"""The page in a real browser: Debian's Chromium."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from helpers.pages import LEFT, RIGHT, TIMEOUT_S, serving
from helpers.rtsp_process import RtspProcess, write_numbered_clip

from rtseg.app.options import StreamOptions
from rtseg.sources.options import SourceOptions
from rtseg.web.options import PageOptions
from rtseg.web.server import PageServer
from rtseg.weights import DEFAULT_MODEL

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")

Page = Any
TIMEOUT_MS = 1000 * TIMEOUT_S

PIXEL = """([x, y]) => {
  const canvas = document.querySelector("canvas");
  return [...canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3);
}"""
HIDE_BUTTON = "[data-class='class {}']"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as runner:
        # Without a user namespace the sandbox of Chromium does not start in a container.
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, page: str, start_page: object) -> Iterator[Callable[..., Page]]:
    """Open the page as another viewer; no script of it may fail. ``start_page`` is used, so that servers end later."""
    contexts, problems = [], []

    def open_one(address: str = page, *, script: str = "", **options: Any) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(TIMEOUT_MS)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        if script:
            tab.add_init_script(script)
        tab.goto(address, wait_until="commit")
        return tab

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


def wait_until(tab: Page, expression: str) -> None:
    """Ask again and again: Playwright's own waiting evaluates texts, which the page forbids."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not tab.evaluate(expression):
        assert time.monotonic() < deadline_s, f"not in time: {expression}"
        tab.wait_for_timeout(30)


def wait_for_frames(tab: Page, count: int = 3) -> None:
    """Wait for so many more frames than were painted so far."""
    painted = int(tab.evaluate("Number(document.querySelector('canvas')?.dataset.frames ?? 0)"))
    wait_until(tab, f"Number(document.querySelector('canvas')?.dataset.frames ?? 0) >= {painted + count}")


def pixel(tab: Page, x: float, y: float = 0.5) -> list[int]:
    """RGB of the canvas at (x, y), in 0..1."""
    found: list[int] = tab.evaluate(PIXEL, [x, y])
    return found


def is_color(found: list[int], expected: tuple[int, int, int], tolerance: int = 14) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(found, expected, strict=True))


def palette(number: int) -> tuple[int, int, int]:
    return number, 255 - number, 7


def mixed(number: int) -> tuple[int, int, int]:
    """Half the palette's colour, half the image's."""
    red, green, blue = palette(number)
    return (red + 160) // 2, (green + 90) // 2, (blue + number) // 2


def test_frames_are_decoded_and_labels_painted_in_their_colours_at_their_place(open_page: Callable[..., Page]) -> None:
    tab = open_page()
    wait_for_frames(tab, 5)
    assert is_color(pixel(tab, 0.25), mixed(LEFT))
    assert is_color(pixel(tab, 0.75), mixed(RIGHT))
    tab.locator("#view select").select_option("mask")
    wait_for_frames(tab)
    assert is_color(pixel(tab, 0.48), palette(LEFT), 2)
    assert is_color(pixel(tab, 0.52), palette(RIGHT), 2)


def test_a_class_is_hidden_by_a_click_and_a_second_viewer_still_sees_it(open_page: Callable[..., Page]) -> None:
    tab, other = open_page(), open_page()
    wait_for_frames(tab)
    wait_for_frames(other)
    tab.locator(HIDE_BUTTON.format(LEFT)).click()
    wait_for_frames(tab)
    wait_for_frames(other)
    assert is_color(pixel(tab, 0.25), (160, 90, LEFT))
    assert is_color(pixel(tab, 0.75), mixed(RIGHT))
    assert is_color(pixel(other, 0.25), mixed(LEFT))


def test_shift_click_shows_only_this_class_and_a_second_one_all(open_page: Callable[..., Page]) -> None:
    tab = open_page()
    wait_for_frames(tab)
    tab.locator(HIDE_BUTTON.format(RIGHT)).click(modifiers=["Shift"])
    wait_for_frames(tab)
    assert is_color(pixel(tab, 0.25), (160, 90, LEFT))
    assert is_color(pixel(tab, 0.75), mixed(RIGHT))
    tab.locator(HIDE_BUTTON.format(RIGHT)).click(modifiers=["Shift"])
    wait_for_frames(tab)
    assert is_color(pixel(tab, 0.25), mixed(LEFT))


@pytest.mark.parametrize("height", [800, 200])  # in a low window, the image does not fill its frame
def test_the_class_under_the_pointer_is_named(open_page: Callable[..., Page], height: int) -> None:
    tab = open_page(viewport={"width": 1280, "height": height})
    wait_for_frames(tab)
    box = tab.locator("canvas").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(80 / 60, rel=0.02)
    for x, name in ((0.25, f"class {LEFT}"), (0.75, f"class {RIGHT}")):
        tab.mouse.move(box["x"] + x * box["width"], box["y"] + box["height"] / 2)
        playwright.expect(tab.locator(".under")).to_have_text(name)


def test_the_keyboard_alone_reaches_a_class_and_a_place_in_the_image(open_page: Callable[..., Page]) -> None:
    tab = open_page()
    wait_for_frames(tab)
    reached: list[str] = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate("(({tagName, dataset}) => dataset.class ?? tagName.toLowerCase())(document.activeElement)")
        )
        if reached[-1] == "canvas":
            for _ in range(8):
                tab.keyboard.press("ArrowLeft")
            playwright.expect(tab.locator(".under")).to_have_text(f"class {LEFT}")
        if reached[-1] == "class 2":
            break
    assert {"canvas", "select", "input", "class 0", "class 1", "class 2"} <= set(reached)
    tab.keyboard.press("Enter")
    assert tab.locator(HIDE_BUTTON.format(2)).get_attribute("aria-pressed") == "false"


def test_shares_are_live_and_every_control_has_a_name(open_page: Callable[..., Page]) -> None:
    tab = open_page()
    playwright.expect(tab.locator(HIDE_BUTTON.format(LEFT))).to_contain_text("50.0 %")
    nameless = tab.evaluate(
        """[...document.querySelectorAll("button, select, input, a, img, canvas")]
          .filter((each) => !each.hidden && !each.textContent.trim())
          .filter((each) => !(each.labels?.length || each.ariaLabel || each.alt))
          .map((each) => each.outerHTML)"""
    )
    assert nameless == []


def test_a_recording_is_started_and_stopped_by_its_button(
    open_page: Callable[..., Page], start_page: Callable[..., PageServer], tmp_path: Path
) -> None:
    tab = open_page(start_page(recordings=tmp_path).address)
    wait_for_frames(tab)
    tab.get_by_role("button", name="Record").click()
    tab.get_by_role("button", name="Stop recording").wait_for()
    wait_for_frames(tab, 10)
    tab.get_by_role("button", name="Stop recording").click()
    tab.get_by_role("button", name="Record", exact=True).wait_for()
    link = tab.locator("a[href^='/api/recordings/']")
    with tab.expect_download() as download:
        link.click()
    (path,) = tmp_path.iterdir()
    assert download.value.suggested_filename == path.name
    assert Path(download.value.path()).read_bytes() == path.read_bytes()
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 8


REFUSE_CODEC = "VideoDecoder.isConfigSupported = async () => ({ supported: false })"
BREAK_DECODER = """
  const Real = VideoDecoder;
  window.VideoDecoder = class extends Real {
    constructor(init) { super(init); this.fail = init.error; }
    decode() { this.fail(new DOMException("broken")); }
  };"""


@pytest.mark.parametrize(
    "script",
    [
        "delete window.VideoDecoder",
        "VideoDecoder.isConfigSupported = async () => ({ supported: false })",
        BREAK_DECODER,
    ],
    ids=["without WebCodecs", "without H.264", "with a broken decoder"],
)
def test_where_the_browser_cannot_decode_the_server_draws_and_hides_what_is_hidden(
    open_page: Callable[..., Page], script: str
) -> None:
    tab = open_page(script=script)
    image = tab.locator(".stage img")
    wait_until(tab, "document.querySelector('.stage img')?.naturalWidth === 80")
    tab.locator(HIDE_BUTTON.format(LEFT)).click()
    playwright.expect(image).to_have_attribute(
        "src", f"/stream/0.mjpg?view=overlay&alpha=0.5&contours=false&hide=class+{LEFT}"
    )


def test_where_the_server_draws_the_class_is_named_and_a_region_is_drawn(
    open_page: Callable[..., Page], start_page: Callable[..., PageServer]
) -> None:
    tab = open_page(start_page().address, script="delete window.VideoDecoder")
    wait_until(tab, "document.querySelector('.stage img')?.naturalWidth === 80")
    box = tab.locator(".stage img").bounding_box()
    for x, name in ((0.25, f"class {LEFT}"), (0.75, f"class {RIGHT}")):
        tab.mouse.move(box["x"] + x * box["width"], box["y"] + box["height"] / 2)
        playwright.expect(tab.locator(".under")).to_have_text(name)
    tab.get_by_role("button", name="Draw region").click()
    for x, y in ((0.1, 0.1), (0.9, 0.1), (0.9, 0.4)):
        tab.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    tab.get_by_role("button", name="Finish region").click()
    tab.locator(".regions polygon").wait_for(state="attached")
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.9 * box["height"])
    playwright.expect(tab.locator(".under")).to_have_text("unlabelled")


def test_of_many_sources_that_the_server_draws_three_move_and_the_page_still_answers(
    open_page: Callable[..., Page], start_page: Callable[..., PageServer], endless: StreamOptions
) -> None:
    tab = open_page(start_page(*7 * [endless]).address, script="delete window.VideoDecoder")
    moving, still = tab.locator("img[src^='/stream/']"), tab.locator("img[src^='/snapshot/']")
    playwright.expect(still).to_have_count(4, timeout=TIMEOUT_MS)
    assert moving.count() == 3
    tab.locator("[data-source='6'] button").click()
    playwright.expect(tab.locator("[data-source='6'] img[src^='/stream/']")).to_have_count(1, timeout=TIMEOUT_MS)
    playwright.expect(moving).to_have_count(3, timeout=TIMEOUT_MS)
    assert tab.evaluate("fetch('/api/status').then((answer) => answer.ok)")


def test_of_many_classes_the_largest_are_listed_and_the_others_can_be_found(open_page: Callable[..., Page]) -> None:
    tab = open_page()
    listed, others = tab.locator("#classes button"), tab.locator("#other-classes button")
    for place, number in enumerate((LEFT, RIGHT)):
        playwright.expect(listed.nth(place)).to_have_attribute("data-class", f"class {number}", timeout=TIMEOUT_MS)
    assert listed.count() == 12
    assert not tab.locator("#other-classes").is_visible()
    tab.get_by_role("button", name="243 others").click()
    tab.get_by_role("searchbox", name="Find a class").fill("CLASS 25")
    found = "[...document.querySelectorAll('#other-classes li:not([hidden]) .name')].map((each) => each.textContent)"
    assert tab.evaluate(found) == [f"class {number}" for number in (25, *range(250, 255))]
    others.filter(has_text="class 254").click()
    assert tab.locator(HIDE_BUTTON.format(254)).get_attribute("aria-pressed") == "false"
    tab.get_by_role("button", name="Show all classes").click()
    assert tab.locator(HIDE_BUTTON.format(254)).get_attribute("aria-pressed") == "true"


def test_a_page_in_the_background_is_sent_no_frames(
    open_page: Callable[..., Page], start_page: Callable[..., PageServer]
) -> None:
    server = start_page()
    tab = open_page(server.address)
    wait_for_frames(tab)
    (source,) = server.sources
    change = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    tab.evaluate(change, True)
    deadline_s = time.monotonic() + TIMEOUT_S
    while source.sink._listeners:
        assert time.monotonic() < deadline_s
        tab.wait_for_timeout(30)
    tab.evaluate(change, False)
    wait_for_frames(tab)


def test_a_lost_server_is_shown_and_found_again(chromium: Any, endless: StreamOptions) -> None:
    context = chromium.new_context()
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT_MS)
    state = tab.locator("#connection")
    with serving([endless], PageOptions(port=0)) as server:
        port = int(server.address.rstrip("/").rpartition(":")[2])
        tab.goto(server.address, wait_until="commit")
        playwright.expect(state).to_have_text("connected", timeout=TIMEOUT_MS)
        wait_for_frames(tab)
    playwright.expect(state).not_to_have_text("connected", timeout=TIMEOUT_MS)
    with serving([endless], PageOptions(port=port)):
        playwright.expect(state).to_have_text("connected", timeout=TIMEOUT_MS)
        wait_for_frames(tab)
    context.close()


def test_where_the_server_draws_its_images_come_again_after_it_was_lost(chromium: Any, endless: StreamOptions) -> None:
    context = chromium.new_context()
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT_MS)
    tab.add_init_script("delete window.VideoDecoder")
    with serving([endless], PageOptions(port=0)) as server:
        port = int(server.address.rstrip("/").rpartition(":")[2])
        tab.goto(server.address, wait_until="commit")
        wait_until(tab, "document.querySelector('.stage img')?.naturalWidth === 80")
    playwright.expect(tab.locator("#connection")).not_to_have_text("connected", timeout=TIMEOUT_MS)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    with serving([endless], PageOptions(port=port)):
        deadline_s = time.monotonic() + TIMEOUT_S
        while not any("/stream/0.mjpg" in url for url in asked):
            assert time.monotonic() < deadline_s
            tab.wait_for_timeout(50)
    context.close()


def test_a_source_whose_server_is_killed_is_shown_as_reconnecting_and_comes_back(
    open_page: Callable[..., Page], start_page: Callable[..., PageServer], endless: StreamOptions, tmp_path: Path
) -> None:
    clip = write_numbered_clip(tmp_path / "clip.h264")
    with RtspProcess(clip) as camera:
        port = camera.port
        part = SourceOptions(read_timeout_s=1.0)
        run = replace(endless, source=camera.url, model=DEFAULT_MODEL, size=(64, 96), part=part)
        tab = open_page(start_page(run).address)
        wait_for_frames(tab)
        camera.kill()
        playwright.expect(tab.locator(".notice")).to_contain_text("reconnecting", timeout=TIMEOUT_MS)
    with RtspProcess(clip, port=port):
        wait_for_frames(tab)
        playwright.expect(tab.locator(".notice")).to_have_text("", timeout=TIMEOUT_MS)


def test_a_region_is_drawn_with_the_pointer_and_limits_the_labels(
    open_page: Callable[..., Page], start_page: Callable[..., PageServer]
) -> None:
    tab = open_page(start_page().address)
    wait_for_frames(tab)
    tab.locator("#view select").select_option("mask")
    tab.get_by_role("button", name="Draw region").click()
    box = tab.locator("canvas").bounding_box()
    for x, y in ((0.1, 0.1), (0.9, 0.1), (0.9, 0.4), (0.1, 0.4)):
        tab.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    tab.keyboard.press("Enter")
    tab.locator(".regions polygon").wait_for(state="attached")
    wait_for_frames(tab)
    assert is_color(pixel(tab, 0.25, 0.25), palette(LEFT), 2)
    assert pixel(tab, 0.25, 0.75) == [0, 0, 0]
    tab.get_by_role("button", name="Clear regions").click()
    wait_until(tab, "document.querySelectorAll('.regions polygon').length === 0")
    wait_for_frames(tab)
    assert is_color(pixel(tab, 0.25, 0.75), palette(LEFT), 2)


def test_a_source_that_has_ended_shows_its_last_image_and_cannot_be_recorded(
    chromium: Any, start_page: Callable[..., PageServer], endless: StreamOptions
) -> None:
    server = start_page(replace(endless, part=SourceOptions()))
    (source,) = server.sources
    deadline_s = time.monotonic() + TIMEOUT_S
    while not source.state.startswith("ended"):
        assert time.monotonic() < deadline_s, source.state
        time.sleep(0.02)  # a state tells nobody that it has changed
    with closing(chromium.new_context()) as context:
        tab = context.new_page()
        tab.goto(server.address, wait_until="commit", timeout=TIMEOUT_MS)
        playwright.expect(tab.locator(".notice")).to_have_text("ended: end of source", timeout=TIMEOUT_MS)
        wait_until(tab, "document.querySelector('canvas')?.width === 80")
        assert is_color(pixel(tab, 0.25), mixed(LEFT))
        tab.get_by_role("button", name="Record").click()
        playwright.expect(tab.locator(".error")).to_contain_text("has ended", timeout=TIMEOUT_MS)


def test_a_wrong_token_is_told_and_the_right_one_opens_the_page(
    open_page: Callable[..., Page], start_page: Callable[..., PageServer], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("correct-horse-battery")
    address = start_page(token_file=token).address
    tab = open_page(address + "login#correct-horse-battery")
    tab.wait_for_url(address)
    wait_for_frames(tab)

    assert tab.evaluate("document.cookie") == ""


def test_a_telephone_needs_no_sideways_scrolling(open_page: Callable[..., Page]) -> None:
    tab = open_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    wait_for_frames(tab)
    tab.wait_for_selector(".stages td")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
