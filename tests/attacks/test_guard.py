"""What stands before the page, asked without a server."""

import asyncio

import pytest

from vlseg.deploy.errors import UserError

pytest.importorskip("gradio")

from vlseg.demo.guard import Guard, stay_home, uploaded


async def reads_all(scope, receive, send):
    """An application that reads the whole body and answers with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message["body"]), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def ask(headers=(), path="/gradio_api/call/mask", chunks=(b"{}",), kind="http", most=100):
    """Return the status of an answer, or of a closed socket, and how many chunks were taken."""
    sent, left = [], list(chunks)

    async def receive():
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": [(k.encode(), v.encode()) for k, v in dict(headers).items()]}
    asyncio.run(Guard(reads_all, most)(scope, receive, send))
    return sent[0].get("status", sent[0]["type"]), len(chunks) - len(left)


HOST = {"host": "127.0.0.1:7860"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:7860"}, 200),
        ({"origin": "https://127.0.0.1:7860"}, 200),
        ({"origin": "http://127.0.0.1:7861"}, 403),
        ({"origin": "http://localhost:7860"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:7860.evil.example"}, 403),
        ({"origin": "http://evil.example/127.0.0.1:7860"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "https://clinic.example", "x-forwarded-host": "clinic.example"}, 200),
        ({"origin": "https://evil.example", "x-forwarded-host": "clinic.example"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
    ],
)
def test_other_sites_get_nothing(headers, status):
    assert ask(HOST | headers)[0] == status


def test_a_socket_of_another_site_is_closed():
    assert ask(HOST | {"origin": "http://evil.example"}, kind="websocket")[0] == "websocket.close"


def test_a_body_is_refused_by_what_it_says_and_by_what_comes():
    assert ask(HOST | {"content-length": "101"}, chunks=[b"x"]) == (413, 0)
    assert ask(HOST | {"content-length": "100"}, chunks=[b"x" * 100])[0] == 200
    status, taken = ask(HOST, chunks=[b"x" * 60] * 1000)
    assert status == 413 and taken == 2
    assert ask(HOST, path="/gradio_api/upload", chunks=[b"x" * 60] * 1000) == (200, 1000)


@pytest.mark.parametrize("how", ["no meta", "above", "link", "none", "number", "zero"])
def test_no_file_but_an_upload(tmp_path, monkeypatch, how):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads" / "a").mkdir(parents=True)
    (tmp_path / "uploads" / "a" / "own.png").write_bytes(b"x")
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "uploads" / "a" / "link.png").symlink_to(tmp_path / "secret.png")
    folder = tmp_path / "uploads"
    path = {
        "no meta": str(tmp_path / "secret.png"), "above": f"{folder}/a/../../secret.png",
        "link": f"{folder}/a/link.png", "none": None, "number": 3, "zero": f"{folder}/a/own.png\0",
    }[how]  # fmt: skip
    with pytest.raises(UserError, match="no upload of this page"):
        uploaded({"path": path})
    assert uploaded({"path": f"{folder}/a/own.png"}).is_file()


@pytest.mark.parametrize("given", [None, "x", 3, [], {}])
def test_what_is_no_file_at_all(given):
    with pytest.raises(UserError, match="no upload"):
        uploaded(given)


def test_nothing_is_fetched(monkeypatch, tmp_path):
    from gradio import processing_utils

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", processing_utils.async_ssrf_protected_get)
    stay_home()
    with pytest.raises(UserError, match="fetches nothing"):
        asyncio.run(processing_utils.async_ssrf_protected_download("http://127.0.0.1:9/x.png", str(tmp_path)))
