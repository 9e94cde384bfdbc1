"""Where a picture may come from besides a file: the clipboard, a camera, and a page served over https."""

import shutil
import ssl
import subprocess
import urllib.request
from base64 import b64encode

import numpy as np
import pytest

from vlseg.demo.overlay import overlay
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter

pytestmark = pytest.mark.slow
PASTE = """async data => {
    const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0))
    await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})])
}"""


def test_a_picture_is_pasted(visit, bright, picture):
    user = visit(permissions=["clipboard-read", "clipboard-write"])
    user.page.get_by_label("Remove Image").first.click()
    user.page.evaluate(PASTE, b64encode(picture.read_bytes()).decode())
    user.page.locator("#segment-picture").get_by_label("Paste from clipboard").click()
    user.page.locator("#segment-picture img").first.wait_for()
    user.ask("a disc")
    image = read_image(picture)
    with Segmenter.open(bright, threads=1) as segmenter:
        user.until(overlay(image, segmenter.probability(image, "a disc"), 0.5, 0.35))


def photograph(user):
    """Take a photo with the browser's camera, and return the answer about it."""
    page, room = user.page, user.page.locator("#segment-picture")
    room.get_by_label("Capture from camera").click()
    room.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#segment-picture video')?.currentTime > 0")
    room.get_by_label("capture photo").click()
    room.locator("img[src]").first.wait_for()
    user.ask("a disc")
    page.locator("#mask img").first.wait_for()
    return user.pixels("#mask img")


def test_a_photo_of_the_camera_is_answered(visit):
    answer = photograph(visit())
    assert np.ptp(answer.astype(int)) > 50  # the fake camera shows a pattern, not one colour


@pytest.fixture
def certificate(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with: apt-get install openssl")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*words, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


def test_over_https_a_camera_works_too(serving, visit, bright, certificate):
    place = f"certificate={tuple(map(str, certificate))}"
    with serving([bright], place, scheme="https") as (url, _):
        user = visit(url, ignore_https_errors=True)
        assert user.page.evaluate("window.isSecureContext") and np.ptp(photograph(user).astype(int)) > 50
        trusted = ssl.create_default_context(cafile=certificate[0])
        trusted.check_hostname = False
        with urllib.request.urlopen(url, context=trusted, timeout=10) as answer:
            assert answer.status == 200
