"""What stands before the page, asked without a server."""

import asyncio

import pytest

from vlseg.deploy.errors import UserError

pytest.importorskip("gradio")

from vlseg.demo.guard import Guard, stay_home, uploaded
from vlseg.demo.hosts import is_own, own_names


async def reads_all(scope, receive, send):
    """An application that reads the whole body and answers with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message["body"]), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def ask(headers=(), path="/gradio_api/call/mask", chunks=(b"{}",), kind="http", most=100, more=()):
    """Return the status of an answer, or of a closed socket, and how many chunks were taken."""
    sent, left = [], list(chunks)

    async def receive():
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": [(k.encode(), v.encode()) for k, v in dict(headers).items()]}
    asyncio.run(Guard(reads_all, own_names("127.0.0.1"), more, most)(scope, receive, send))
    return sent[0].get("status", sent[0]["type"]), len(chunks) - len(left)


def told(headers):
    """Return what a refusal says."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    asyncio.run(Guard(reads_all, own_names(""))(scope, reads_all, send))
    return sent[1]["body"]


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
        ({"origin": "http://[::1"}, 403),
        ({"origin": "http://127.0.0.1:7860/"}, 403),
        ({"origin": "https://evil.example", "x-forwarded-host": "evil.example"}, 403),
        ({"origin": "http://127.0.0.9", "x-forwarded-host": "127.0.0.9"}, 403),
        ({"origin": "http://localhost:3000", "x-forwarded-host": "localhost:3000"}, 403),
        ({"origin": "http://evil.example", "host": "evil.example"}, 403),
        ({"origin": "https://evil.example", "x-forwarded-host": "clinic.example"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
    ],
)
def test_other_sites_get_nothing(headers, status):
    assert ask(HOST | headers)[0] == status


@pytest.mark.parametrize(("forwarded", "status"), [("clinic.example", 200), ("evil.example", 403), ("", 403)])
def test_a_proxy_is_believed_where_it_was_named(forwarded, status):
    """Any page can add X-Forwarded-Host to what it asks, so that header alone lets nobody in."""
    headers = HOST | {"origin": f"https://{forwarded}", "x-forwarded-host": forwarded}
    assert ask(headers, more=["Clinic.example"])[0] == status
    assert ask(headers | {"host": "clinic.example"}, more=["clinic.example"])[0] == status
    assert ask(headers)[0] == 403


def test_a_socket_of_another_site_is_closed():
    assert ask(HOST | {"origin": "http://evil.example"}, kind="websocket")[0] == "websocket.close"


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:7860", True), ("localhost:7860", True), ("LocalHost.", True), ("[::1]:7860", True), ("::1", False),
        ("192.168.1.5:7860", True), ("[fe80::1]", True), ("gpu-box:80", True), ("GPU-Box.local", True),
        ("gpu-box.clinic.example", True), ("page.clinic.example:443", True),
        ("evil.example", False), ("evil.example:7860", False), ("gpu-box.evil.example", False), ("", False),
        ("localhost.evil.example", False), ("127.0.0.1.evil.example", False), ("127.0.0.1@evil.example", False),
        ("evil.example#127.0.0.1", False), ("evil.example/127.0.0.1", False), ("[::1", False),
        ("evil\u2024example", False), (" ", False), (":7860", False), ("2130706433", False), ("0x7f.1", False),
    ],
)  # fmt: skip
def test_a_request_must_name_this_machine(host, own, monkeypatch):
    """A page of another site whose name was made to lead here is no other site to a browser; its name tells."""
    monkeypatch.setattr("platform.node", lambda: "gpu-box.clinic.example")
    assert is_own(host, own_names("page.clinic.example")) == own
    for path in ("/", "/config", "/gradio_api/call/mask", "/gradio_api/upload", "/gradio_api/queue/data"):
        headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        if not own:
            assert ask(headers, path, more=["Page.Clinic.Example"])[0] == 403
            assert ask({"host": host}, path, more=["Page.Clinic.Example"])[0] == 403
        else:
            assert ask({"host": host}, path, more=["Page.Clinic.Example"])[0] == 200


def test_a_machine_without_a_name(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "")
    assert own_names("") == {"localhost"} and not is_own("", own_names("")) and ask({})[0] == 403


def test_who_is_refused_is_told_the_way_out():
    assert b"--name gpu.clinic.example" in told({"host": "gpu.clinic.example:7860"})
    assert len(told({"host": "x" * 5000})) < 500


def test_a_socket_by_another_name_is_closed():
    assert ask({"host": "evil.example", "origin": "http://evil.example"}, kind="websocket")[0] == "websocket.close"


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
