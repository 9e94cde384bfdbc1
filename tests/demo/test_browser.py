"""The page in a real browser: what a user sees is judged by the pixels of the returned picture."""

import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlseg.demo.overlay import overlay
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

# The server tells every address it connects to or looks up, from the first import on.
SERVER = """
import sys
def told(event, values):
    if event == "socket.connect": print("ADDRESS", values[1], flush=True)
    if event == "socket.getaddrinfo": print("ADDRESS", values[0], flush=True)
sys.addaudithook(told)
from pathlib import Path
from vlseg.demo.page import launch
launch([Path(name) for name in sys.argv[2:]], port=int(sys.argv[1]), threads=1)
"""
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(url: str, process: subprocess.Popen, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.3)
    raise AssertionError(f"the page did not come up: exit code {process.poll()}")


@pytest.fixture(scope="module")
def server(bright, strict, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log.txt"
    url = f"http://127.0.0.1:{_free_port()}"
    command = [sys.executable, "-c", SERVER, url.rpartition(":")[2], str(bright), str(strict)]
    with open(log, "w") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            _wait_for(url, process)
            yield url, log
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(server, browser):
    """Open the page as a new user; at the end every request must have gone to the page's own address."""
    requests, contexts = [], []

    def open_page(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(server[0])
        page.get_by_role("button", name="Segment").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    own = (server[0], "data:", "blob:")
    assert requests and [url for url in requests if not url.startswith(own)] == []


def upload(page, path: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(path)
    page.locator("#picture img").first.wait_for()


def ask(page, prompt: str) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Segment").click()


def shown(page) -> np.ndarray:
    """The overlay's own pixels, as the browser got them."""
    source = page.locator("#mask img").first.get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(page.request.get(source).body())).convert("RGB"))


def wait_until_shown(page, expected: np.ndarray) -> None:
    """Wait for exactly these pixels; the difference is told when they do not come."""
    end, got = time.monotonic() + 20, None
    while time.monotonic() < end:
        if page.locator("#mask img").count():
            got = shown(page)
            if np.array_equal(got, expected):
                return
        page.wait_for_timeout(100)
    differing = "nothing is shown" if got is None else f"{(got != expected).any(axis=-1).sum()} pixels differ"
    raise AssertionError(differing)


def set_slider(page, label: str, value: float) -> None:
    field = page.get_by_label(f"number input for {label}")
    field.fill(str(value))
    field.press("Enter")


def answer(bundle: Path, picture: Path, prompt: str):
    image = read_image(picture)
    with Segmenter.open(bundle, threads=1) as segmenter:
        return image, segmenter.probability(image, prompt)


def test_upload_ask_and_move_the_threshold(visit, bright, picture):
    page = visit()
    upload(page, picture)
    ask(page, "one bright disc")
    image, probability = answer(bright, picture, "one bright disc")
    wait_until_shown(page, overlay(image, probability, 0.5, 0.35))
    assert f"{np.count_nonzero(probability > 0.5):,} px" in page.locator("#area").inner_text()
    assert "decoder" in page.locator("#time").inner_text()

    set_slider(page, "Threshold", 0.9)
    wait_until_shown(page, overlay(image, probability, 0.9, 0.35))
    assert f"{np.count_nonzero(probability > 0.9):,} px" in page.locator("#area").inner_text()
    set_slider(page, "Opacity", 1)
    wait_until_shown(page, overlay(image, probability, 0.9, 1.0))


def test_an_example_and_another_bundle(visit, strict):
    page = visit()
    page.locator(".gallery-item, table tbody tr").first.click()
    page.locator("#picture img").first.wait_for()
    page.get_by_label("Bundle").click()
    page.get_by_role("option", name="strict").click()
    sync_api.expect(page.get_by_label("number input for Threshold")).to_have_value("0.8")
    page.get_by_role("button", name="Segment").click()
    page.locator("#mask img").first.wait_for()
    assert shown(page).shape == (352, 352, 3)


@pytest.mark.parametrize(
    ("file", "prompt", "message"), [("broken", "disc", "cannot read"), ("good", " ", "prompt is empty")]
)
def test_mistakes_are_told_in_the_page(visit, picture, tmp_path, file, prompt, message):
    page = visit()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"this is not a picture")
    page.locator("input[type=file]").first.set_input_files(broken if file == "broken" else picture)
    page.wait_for_timeout(1000)
    ask(page, prompt)
    sync_api.expect(page.get_by_text(message)).to_be_visible()
    assert "Traceback" not in page.content()


def test_two_users_do_not_see_each_others_pictures(visit, bright, picture, tmp_path):
    other = tmp_path / "other.png"
    Image.fromarray(255 - read_image(picture)).save(other)
    pages = [(visit(), picture), (visit(), other)]
    for page, path in pages:
        upload(page, path)
        ask(page, "a disc")
    for page, path in pages:
        image, probability = answer(bright, path, "a disc")
        wait_until_shown(page, overlay(image, probability, 0.5, 0.35))
        set_slider(page, "Threshold", 0.3)
    for page, path in pages:
        image, probability = answer(bright, path, "a disc")
        wait_until_shown(page, overlay(image, probability, 0.3, 0.35))


@pytest.mark.parametrize("options", [{"viewport": {"width": 390, "height": 844}}, {"color_scheme": "dark"}])
def test_nothing_overflows(visit, options, tmp_path):
    page = visit(**options)
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


def test_the_server_speaks_to_this_machine_only(server):
    """Runs last: whatever the tests above made the server do is in its log."""
    addresses = [line.split(" ", 1)[1] for line in server[1].read_text().splitlines() if line.startswith("ADDRESS")]
    assert addresses and all("127.0.0.1" in address for address in addresses), addresses
