"""What stands before the page: no request of another site, no endless body, no file but an upload, no other machine."""

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gradio import processing_utils
from gradio.utils import get_upload_folder

from ..deploy.errors import UserError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BODY = 8 * 2**20
"""Bytes of a request that is no upload; a frame of a webcam is the largest, and has a tenth of it."""
UPLOAD = "/upload"


class TooLarge(Exception):
    """A body that grew past its limit."""


class Guard:
    """Refuses what a browser sends on behalf of another site (403), and bodies above a limit (413).

    Gradio itself answers any origin unless the page is at localhost, and bounds the size of uploads alone.
    """

    def __init__(self, app: App, most: int = MAX_BODY) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if _foreign(headers):
            return await _refuse(send, 403, "this page answers no other site", scope["type"])
        if scope["type"] == "websocket" or scope["path"].rstrip("/").endswith(UPLOAD):
            return await self.app(scope, receive, send)
        if int(headers.get(b"content-length", "0") or 0) > self.most:
            return await _refuse(send, 413, "the request is too large", scope["type"])
        await self._counted(scope, receive, send)

    async def _counted(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on whose length is only known when it has come."""
        taken, begun = 0, False

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.most:
                raise TooLarge
            return message

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, counting, noting)
        except TooLarge:
            if not begun:
                await _refuse(send, 413, "the request is too large", scope["type"])


def stay_home() -> None:
    """Let Gradio fetch nothing from other machines: a request may name an address in place of an upload."""
    processing_utils.async_ssrf_protected_get = _fetch_nothing


def uploaded(picture: Any) -> Path:
    """Return where an uploaded picture is.

    Raises:
        UserError: another file of this machine, which nobody may look at through the page.
    """
    given = picture.get("path") if isinstance(picture, dict) else getattr(picture, "path", None)
    folder = Path(get_upload_folder()).resolve()
    if not isinstance(given, str) or "\0" in given or not Path(given).resolve().is_relative_to(folder):
        raise UserError("the picture is no upload of this page: send it to /gradio_api/upload, name what comes back")
    return Path(given)


async def _fetch_nothing(url: str) -> Any:
    raise UserError("this page fetches nothing from other machines: upload the picture")


def _foreign(headers: dict[bytes, str]) -> bool:
    """Does a browser say that the request comes from another site than the one it goes to?"""
    origin = headers.get(b"origin")
    if origin is None:
        return headers.get(b"sec-fetch-site") == "cross-site" and headers.get(b"sec-fetch-mode") != "navigate"
    own = {headers.get(b"host", ""), headers.get(b"x-forwarded-host", "")}
    return urlsplit(origin).netloc.lower() not in {host.strip().lower() for host in own} - {""}


async def _refuse(send: Send, status: int, why: str, kind: str) -> None:
    if kind == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})
