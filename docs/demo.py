"""The demo's page in a headless Chromium: its picture for the docs, the time from a click to the mask, a camera's pace.

python docs/demo.py picture [--bundle B]     writes docs/demo.png
python docs/demo.py click [--bundle B]       appends a row to docs/measured/demo.csv
python docs/demo.py camera [--bundle B]      likewise: the time from one frame on the screen to the next
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from vlseg.deploy.bench.tasks import draw_image
from vlseg.deploy.rows import append_row
from vlseg.deploy.stats import summary

HERE = Path(__file__).parent
# times belong to one machine at one moment, so they are no part of a picture in the documentation
HIDDEN = "#time { visibility: hidden !important; } footer, #api { display: none !important; }"
VIEW = {"width": 1280, "height": 860}
CLICKS, WARM = 30, 5
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a moving pattern, nobody to ask
SECONDS = 20
# from the click to the frame in which the new answer's pixels are on the screen
WATCH = """() => new Promise(done => {
    const old = document.querySelector('#mask img')?.src
    const began = performance.now()
    const look = () => {
        const image = document.querySelector('#mask img')
        if (image && image.src !== old && image.complete && image.naturalWidth)
            image.decode().then(() => requestAnimationFrame(() => done(performance.now() - began)))
        else requestAnimationFrame(look)
    }
    document.querySelector('#ask').click()
    look()
})"""

# when each new frame of the stream was on the screen
FRAMES = """seconds => new Promise(done => {
    const times = [], end = performance.now() + 1000 * seconds
    let old = null
    const look = now => {
        const image = document.querySelector('#frames img')
        if (image && image.src !== old) { old = image.src; times.push(now) }
        if (now < end) requestAnimationFrame(look)
        else done(times)
    }
    requestAnimationFrame(look)
})"""


def main() -> None:
    """Serve the page, do what is asked, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("picture", "click", "camera"))
    parser.add_argument("--bundle", type=Path, help="default: the package's own")
    parser.add_argument("--example", type=int, default=0)
    given = parser.parse_args()
    with page_of(given.bundle) as page:
        if given.what == "picture":
            (HERE / "demo.png").write_bytes(picture(page, given.example))
        elif given.what == "click":
            clicks(page, given.bundle)
        else:
            frames(page, given.bundle)


@contextmanager
def page_of(bundle: Path | None) -> Iterator[Page]:
    """Serve a bundle (None: the package's own) and open its page."""
    url = f"http://127.0.0.1:{free_port()}"
    start = "from vlseg.cli.door import main; main()"
    words = ["demo", *([str(bundle)] if bundle else []), "--port", url.rpartition(":")[2]]
    server = subprocess.Popen([sys.executable, "-c", start, *words])
    try:
        wait_for(url, server)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CAMERA)
            page = browser.new_page(viewport=VIEW, device_scale_factor=1)
            page.set_default_timeout(120_000)
            page.goto(url)
            page.locator("#ask").wait_for()
            yield page
            browser.close()
    finally:
        server.terminate()
        server.wait()


def picture(page: Page, example: int) -> bytes:
    """Return the first tab as PNG, once an example was answered."""
    page.locator("#segment-examples button").nth(example).click()
    page.locator("#mask img").first.wait_for()
    page.add_style_tag(content=HIDDEN)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)
    return page.screenshot(full_page=True)


def clicks(page: Page, bundle: Path | None) -> None:
    """Time clicks on pictures that the page has not seen, and append what they took."""
    times = []
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(WARM + CLICKS):
            upload(page, draw_image(Path(scratch) / f"drawn{i}.png", seed=i))
            took = float(page.evaluate(WATCH))
            times += [took] if i >= WARM else []
    write("click to overlay", bundle, times)


def frames(page: Page, bundle: Path | None) -> None:
    """Time a camera's frames on the screen, the first seconds left out, and append from one to the next."""
    page.get_by_role("tab", name="Stream").click()
    page.locator("#camera").get_by_text("Click to Access Webcam").click()
    page.locator("#camera button", has_text=re.compile("Record|Stream|Start", re.I)).first.click()
    page.locator("#frames img").wait_for()
    page.wait_for_timeout(3000)
    shown = page.evaluate(FRAMES, SECONDS)
    write("camera, frame to frame", bundle, [after - before for before, after in pairwise(shown)])


def write(what: str, bundle: Path | None, times: list[float]) -> None:
    """Append a row of milliseconds."""
    figures = {name: round(value, 3) for name, value in summary(times).items()}
    row = {"what": what, "bundle": bundle.name if bundle else "base", "n": len(times), **figures, "load": load()}
    append_row(HERE / "measured" / "demo.csv", row)
    print(figures)


def load() -> float:
    """Return how many processes wanted the processor in the last minute; above the cores, times are not the page's."""
    return round(os.getloadavg()[0], 1)


def upload(page: Page, path: Path) -> None:
    """Give the page a picture, and wait until it shows it."""
    page.locator("#segment-picture input[type=file]").first.set_input_files(path)
    page.locator(f"#segment-picture img[src*='{path.name}']").first.wait_for()
    page.locator("#mask img").first.wait_for(state="detached")
    page.wait_for_timeout(300)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, server: subprocess.Popen, seconds: float = 300) -> None:
    """Wait until the page answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    raise SystemExit(f"the page did not come up at {url}")


if __name__ == "__main__":
    main()
