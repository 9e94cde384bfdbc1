"""The page as a stranger meets it: files of the machine, other sites, vast and slow requests, what a schema allows."""

import contextlib
import http.client
import json
import os
import platform
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ..demo.conftest import bright, picture, serving  # noqa: F401  # pytest finds them here

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow
MIB = 2**20


@pytest.fixture(scope="module")
def server(serving, bright, tmp_path_factory):  # noqa: F811
    """A page, its address, its process id, and the file of what it writes to stdout: the addresses it connects to."""
    place = tmp_path_factory.mktemp("server")
    with (
        open(place / "out", "wb") as out,
        open(place / "err", "wb") as err,
        serving([bright], stdout=out, stderr=err, env={**os.environ, "TMPDIR": str(place)}) as (url, process),
    ):
        yield url, process.pid, place


def curl(*words) -> tuple[int, str]:
    """Return status and body."""
    told = subprocess.run(["curl", "-s", "-w", "\n%{http_code}", *map(str, words)], capture_output=True, timeout=90)
    body, _, status = told.stdout.decode(errors="replace").rpartition("\n")
    return int(status), body


def ask(url: str, data: list, *words) -> str:
    """Return what `/mask` says in the end."""
    call = f"{url}/gradio_api/call/mask"
    status, body = curl(call, "-H", "Content-Type: application/json", "-d", json.dumps({"data": data}), *words)
    if status != 200:
        return f"{status} {body}"
    return curl("-N", f"{call}/{json.loads(body)['event_id']}", "--max-time", 60)[1]


def upload(url: str, path: Path) -> dict:
    """Upload a file; return it as a request names it."""
    status, body = curl("-F", f"files=@{path}", f"{url}/gradio_api/upload")
    assert status == 200, body
    return {"path": json.loads(body)[0], "meta": {"_type": "gradio.FileData"}}


def connected(place: Path) -> list[str]:
    return [line for line in (place / "out").read_text().splitlines() if line.startswith("ADDRESS")]


def test_it_answers_who_asks_as_the_docs_say(server, picture):  # noqa: F811
    told = ask(server[0], [upload(server[0], picture), "a disc", None, None])
    assert "event: complete" in told and "area_px" in told


@pytest.mark.parametrize("meta", [{"meta": {"_type": "gradio.FileData"}}, {}, {"meta": {}}, {"url": "/x"}])
def test_no_file_of_the_machine_is_read(server, picture, meta):  # noqa: F811
    """The picture is a whole one that lies elsewhere, so that reading it would show as an answer."""
    for path in (str(picture), f"{server[2]}/../{picture}", "/etc/passwd", "/proc/self/environ"):
        told = ask(server[0], [{"path": path, **meta}, "a disc", None, None])
        assert "area_px" not in told and "root:" not in told and "error" in told.lower(), told


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file={secret}", "file={secret}", "gradio_api/file=../../../../../..{secret}",
        "gradio_api/file=%2e%2e/%2e%2e/%2e%2e{secret}", "gradio_api/file=file://{secret}", "file=/etc/passwd",
        "gradio_api/file=//{secret}", "static/..%2f..%2f..{secret}", "assets/../../../..{secret}",
        "gradio_api/stream/..%2f..{secret}", "gradio_api/proxy=http://127.0.0.1:9/x", "theme.css/..{secret}",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(server, picture, path):  # noqa: F811
    secret = picture.with_name("secret.txt")
    secret.write_text("a patient's name")
    status, body = curl("--path-as-is", f"{server[0]}/{path.format(secret=secret)}")
    assert "patient" not in body and "root:" not in body and (status >= 400 or "<html" in body.lower()), (status, body)


def test_nothing_is_fetched_from_elsewhere(server):
    """A request may name an address for a picture; a server of our own would hear it."""
    before = connected(server[2])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/x.png"
        for given in ({"path": address}, {"path": "", "url": address}, {"path": "https://192.0.2.1/x.png"}):
            told = ask(server[0], [{**given, "meta": {"_type": "gradio.FileData"}}, "a disc", None, None])
            assert "area_px" not in told
        with pytest.raises(TimeoutError):
            listener.accept()
    assert connected(server[2]) == before


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil.example"])
def test_other_sites_may_not_ask(server, picture, origin):  # noqa: F811
    url, head = server[0], ("-H", f"Origin: {origin}")
    given = upload(url, picture)
    assert ask(url, [given, "a disc", None, None], *head).startswith("403")
    assert curl("-F", f"files=@{picture}", f"{url}/gradio_api/upload", *head)[0] == 403
    for path in ("config", f"gradio_api/file={given['path']}", "gradio_api/openapi.json"):
        status, _ = curl(f"{url}/{path}", *head)
        assert status == 403
    told = subprocess.run(["curl", "-s", "-i", url, *head], capture_output=True, text=True, timeout=30).stdout
    assert "access-control-allow-origin" not in told.lower()
    assert "event: complete" in ask(url, [given, "a disc", None, None], "-H", f"Origin: {url}")


def test_a_stream_of_answers_and_a_socket_are_for_this_page_alone(server, picture):  # noqa: F811
    """A page of another site may neither listen to an answer nor open a socket."""
    url, evil = server[0], ("-H", "Origin: http://evil.example")
    call = f"{url}/gradio_api/call/mask"
    given = json.dumps({"data": [upload(url, picture), "a disc", None, None]})
    event = json.loads(curl(call, "-H", "Content-Type: application/json", "-d", given)[1])["event_id"]
    for path in (f"call/mask/{event}", "queue/data?session_hash=x", "heartbeat/x"):
        assert curl("--max-time", 20, f"{url}/gradio_api/{path}", *evil)[0] == 403
    preflight = ("-i", "-X", "OPTIONS", call, *evil, "-H", "Access-Control-Request-Method: POST")
    assert "allow-origin" not in curl("--max-time", 20, *preflight)[1].lower()
    socket_words = ("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
                    "-H", "Sec-WebSocket-Key: dmxzZWc6OnZsc2VnOjoxMg==")  # fmt: skip
    for path in ("gradio_api/queue/join", "queue/join", "ws"):
        assert curl("--max-time", 20, f"{url}/{path}", *evil, *socket_words)[0] == 403
    assert "event: complete" in curl("-N", f"{call}/{event}", "--max-time", 60)[1]


def test_a_name_that_was_made_to_lead_here_gets_nothing(server, picture):  # noqa: F811
    """DNS rebinding: to the browser the page of evil.example comes from here; the name it asks by tells."""
    url, port = server[0], server[0].rpartition(":")[2]
    evil = ("-H", f"Host: evil.example:{port}", "-H", f"Origin: http://evil.example:{port}")
    assert ask(url, [upload(url, picture), "a disc", None, None], *evil).startswith("403")
    for words in (("-F", f"files=@{picture}", f"{url}/gradio_api/upload"), (f"{url}/config",), (url,)):
        status, told = curl(*words, *evil)
        assert status == 403 and "--name evil.example" in told
    for name in ("localhost", "127.0.0.1", platform.node()):
        assert curl(f"{url}/config", "-H", f"Host: {name}:{port}")[0] == 200


def test_a_page_in_the_network_answers_to_address_name_and_what_it_was_told(serving, bright):  # noqa: F811
    """Asked over an address that is not this machine's own loop where it has one, by the machine's name, by --name."""
    with serving([bright], "host='0.0.0.0', names=('page.clinic.example',)", stderr=subprocess.DEVNULL) as (url, _):
        port = url.rpartition(":")[2]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            with contextlib.suppress(OSError):
                probe.connect(("192.0.2.1", 9))  # sends nothing: only asks the system from where it would
            address = probe.getsockname()[0]
        there = address if address != "0.0.0.0" else "127.0.0.1"
        assert curl(f"http://{there}:{port}/config")[0] == 200
        evil = ("-H", "Origin: http://evil.example", "-H", "X-Forwarded-Host: evil.example")
        assert curl(f"http://{there}:{port}/config", *evil)[0] == 403
        for name, status in ((platform.node(), 200), ("page.clinic.example", 200), ("evil.example", 403)):
            assert curl(f"http://{there}:{port}/config", "-H", f"Host: {name}:{port}")[0] == status


def resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / MIB


@pytest.mark.parametrize("stated", [True, False])
def test_a_body_of_gigabytes_is_cut_off(server, stated):
    """Sent as JSON, with its length stated or in chunks: refused, and not kept in memory."""
    address, before, sent = urlsplit(server[0]), resident(server[1]), 0
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    block = b"x" * MIB
    with contextlib.suppress(OSError):
        connection.putrequest("POST", "/gradio_api/call/mask")
        connection.putheader("Content-Type", "application/json")
        name, value = ("Content-Length", str(2048 * MIB)) if stated else ("Transfer-Encoding", "chunked")
        connection.putheader(name, value)
        connection.endheaders()
        for _ in range(512):
            connection.send(block if stated else b"%x\r\n%s\r\n" % (MIB, block))
            sent += 1
    connection.close()
    assert sent < 512 or resident(server[1]) - before < 100
    assert resident(server[1]) - before < 200
    assert curl(f"{server[0]}/config")[0] == 200


def test_bombs_end_in_a_sentence(server, tmp_path):
    url = server[0]
    (tmp_path / "bomb.png").write_bytes(png_of(60_000, 60_000))
    given = upload(url, tmp_path / "bomb.png")
    told = ask(url, [given, "a disc", None, None])
    assert "area_px" not in told and "event: error" in told
    deep = '{"data": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (tmp_path / "deep.json").write_text(deep)
    words = ("-H", "Content-Type: application/json", "--data-binary", f"@{tmp_path / 'deep.json'}")
    assert curl(f"{url}/gradio_api/call/mask", *words)[0] >= 400
    (tmp_path / "long.json").write_text(json.dumps({"data": [given, "word " * 1_000_000, None, None]}))
    words = ("-H", "Content-Type: application/json", "--data-binary", f"@{tmp_path / 'long.json'}")
    curl(f"{url}/gradio_api/call/mask", *words)
    assert curl(f"{url}/config")[0] == 200


def png_of(width: int, height: int) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_slow_clients_keep_nobody_waiting(server, picture):  # noqa: F811
    """Two hundred connections that never end their request."""
    address = urlsplit(server[0])
    slow = [socket.create_connection((str(address.hostname), address.port), timeout=30) for _ in range(200)]
    try:
        for i, one in enumerate(slow):
            one.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\n" + b"Content-Length: 99\r\n\r\nab" * (i % 2))
        start = time.monotonic()
        assert "event: complete" in ask(server[0], [upload(server[0], picture), "a disc", None, None])
        assert time.monotonic() - start < 30
    finally:
        for one in slow:
            one.close()


def test_whatever_the_schema_allows(server):
    """Schemathesis makes requests up from the OpenAPI document that the page serves; none may break it."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, Phase, given, settings

    url = server[0]
    schema = schemathesis.openapi.from_url(f"{url}/gradio_api/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {"/gradio_api/upload", "/gradio_api/run/mask"} <= {one.path for one in operations} or len(operations) >= 2
    quiet = settings(
        max_examples=15, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    asked, statuses = [], set()

    def sound(case):
        answer = case.call(base_url=url, timeout=60)
        asked.append(case.operation.path)
        statuses.add(answer.status_code)
        assert answer.status_code < 500 or b"Traceback" not in answer.content
        assert "/site-packages/" not in answer.text

    # the stream of an event that nobody began stays open until its client goes
    for operation in (one for one in operations if one.method.upper() == "POST"):
        quiet(given(case=operation.as_strategy())(sound))()
    assert len(asked) >= 20 and 200 in statuses, statuses
    assert curl(f"{url}/config")[0] == 200


def test_many_at_once(server, picture):  # noqa: F811
    told, given = [], upload(server[0], picture)
    threads = [threading.Thread(target=lambda: told.append(ask(server[0], [given, "x", None, None]))) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(told) == 8 and len({line for text in told for line in text.splitlines() if "area_px" in line}) >= 1
