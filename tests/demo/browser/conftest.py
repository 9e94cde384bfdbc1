"""The page in a real browser: a server in a process of its own, and a visitor who looks at pixels."""

import io
import shutil
import time
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
# a camera that shows a moving pattern, and nobody who has to allow it
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def pytest_collection_modifyitems(items):
    absent = pytest.mark.skip(reason="no chromium on this machine: apt-get install chromium")
    for item in items:
        if Path(__file__).parent in item.path.parents and CHROMIUM is None:
            item.add_marker(absent)


class Visitor:
    """One user with a page."""

    def __init__(self, page, url):
        self.page, self.url = page, url

    def open(self, tab):
        self.page.get_by_role("tab", name=tab).click()

    def upload(self, path, tab="segment"):
        self.page.locator(f"#{tab}-picture input[type=file]").first.set_input_files(path)
        name = Path(path).name.replace(" ", "")
        self.page.locator(f"#{tab}-picture img[src*='{name}']").first.wait_for()

    def ask(self, prompt):
        self.page.locator("#prompt textarea").fill(prompt)
        self.page.locator("#ask").click()

    def set(self, label, value):
        field = self.page.get_by_label(f"number input for {label}")
        field.fill(str(value))
        field.press("Enter")

    def choose(self, bundle):
        self.page.get_by_label("Bundle", exact=True).click()
        self.page.get_by_role("option", name=bundle).click()

    def pixels(self, selector):
        """An image's own pixels, as the browser got them."""
        source = self.page.locator(selector).first.get_attribute("src")
        data = (
            b64decode(source.split(",", 1)[1]) if source.startswith("data:") else self.page.request.get(source).body()
        )
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def until(self, expected, selector="#mask img"):
        """Wait for exactly these pixels; the difference is told when they do not come."""
        end, got = time.monotonic() + 20, None
        while time.monotonic() < end:
            if self.page.locator(selector).count():
                got = self.pixels(selector)
                if np.array_equal(got, expected):
                    return
            self.page.wait_for_timeout(60)
        same = got is not None and got.shape == expected.shape
        raise AssertionError(
            f"{(got != expected).any(axis=-1).sum()} pixels differ" if same else f"shown: {np.shape(got)}"
        )

    def take(self, kind):
        """Press a download button and return the file's bytes and name."""
        with self.page.expect_download() as waiting:
            self.page.locator(f"#take-{kind}").click()
        return Path(waiting.value.path()).read_bytes(), waiting.value.suggested_filename

    def text(self, selector):
        return self.page.locator(selector).inner_text()


@pytest.fixture(scope="session")
def server(serving, bright, strict, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with open(log, "w") as out, serving([bright, strict], stdout=out, stderr=out) as (url, _):
        yield url, log


@pytest.fixture(scope="module")
def browser():
    """Closed after each file: playwright leaves its event loop running, where other files' tests start their own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *CAMERA])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(server, browser):
    """Open the page as a new user; at the end every request must have gone to the page's own address."""
    requests, contexts, own = [], [], [server[0], "data:", "blob:"]

    def open_page(url=server[0], **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: requests.append(request.url))
        own.append(url)
        page.goto(url)
        page.locator("#ask").wait_for()
        return Visitor(page, url)

    yield open_page
    for context in contexts:
        context.close()
    assert requests and [url for url in requests if not url.startswith(tuple(own))] == []
