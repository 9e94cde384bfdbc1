"""The server itself, asked by curl: what it asks for, and what it leaves behind."""

import os
import subprocess

import pytest

pytestmark = pytest.mark.slow


def curl(*words):
    return subprocess.run(["curl", "-s", *map(str, words)], capture_output=True, text=True, timeout=60).stdout


def test_uploads_go_with_the_server(serving, bright, picture, tmp_path):
    """Stopped by SIGTERM, as a service is, it leaves nothing of what was uploaded."""
    with serving([bright], env={**os.environ, "TMPDIR": str(tmp_path)}) as (url, process):
        assert "disc.png" in curl("-F", f"files=@{picture}", f"{url}/gradio_api/upload")
        assert list(tmp_path.rglob("disc.png"))
        process.terminate()
        assert process.wait(20) == 0
    assert list(tmp_path.rglob("*.png")) == []


def test_a_login_is_asked_for_where_one_is_set(serving, bright, tmp_path):
    with serving([bright], "login=('doc', 'secret')") as (url, _):
        asked = ("-o", tmp_path / "out", "-w", "%{http_code}")
        call = (f"{url}/gradio_api/call/mask", "-H", "Content-Type: application/json", "-d", '{"data": []}')
        assert curl(*asked, *call) == "401"
        assert curl(*asked, f"{url}/login", "-F", "username=doc", "-F", "password=wrong") == "400"
        assert (
            curl(*asked, f"{url}/login", "-c", tmp_path / "jar", "-F", "username=doc", "-F", "password=secret") == "200"
        )
        assert curl(*asked, "-b", tmp_path / "jar", *call) == "200"


def test_a_file_that_is_too_large_is_refused_on_the_way(serving, bright, tmp_path):
    with open(tmp_path / "vast.png", "wb") as file:
        file.truncate(65 * 2**20)
    with serving([bright]) as (url, _):
        told = curl(
            "-o",
            tmp_path / "out",
            "-w",
            "%{http_code}",
            "-F",
            f"files=@{tmp_path / 'vast.png'}",
            f"{url}/gradio_api/upload",
        )
    assert told == "413"
