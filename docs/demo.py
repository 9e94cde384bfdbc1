"""Make docs/demo.png: the demo's page on a bundle, asked about one of its drawn examples, in a headless Chromium.

python docs/demo.py quickstart/bundle [--example 1]
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
# times belong to one machine at one moment, so they are no part of a picture in the documentation
HIDDEN = "#readings, #note { display: none !important; }"
VIEW = {"width": 1080, "height": 800}


def main() -> None:
    """Serve the page, take the picture, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--example", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "demo.png")
    given = parser.parse_args()
    port = free_port()
    start = "from vlseg.cli.door import main; main()"
    server = subprocess.Popen([sys.executable, "-c", start, "demo", str(given.bundle), "--port", str(port)])
    try:
        given.out.write_bytes(picture(f"http://127.0.0.1:{port}", given.example, server))
    finally:
        server.terminate()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def picture(url: str, example: int, server: subprocess.Popen) -> bytes:
    """Return the page as PNG once it has answered."""
    wait_for(url, server)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport=VIEW, device_scale_factor=1)
        page.set_default_timeout(120_000)
        page.goto(url)
        ask(page, example)
        page.add_style_tag(content=HIDDEN)
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)
        taken = page.screenshot(full_page=True)
        browser.close()
    return taken


def ask(page: Page, example: int) -> None:
    """Pick a drawn example, with its sentence, and wait for the mask."""
    page.get_by_role("button", name="Segment").wait_for()
    page.locator(".gallery-item, table tbody tr").nth(example).click()
    page.locator("#picture img").first.wait_for()
    page.get_by_role("button", name="Segment").click()
    page.locator("#mask img").first.wait_for()


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
