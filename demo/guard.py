"""What stands before the page: no request of another site, no endless body, no file but an upload, no other machine."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

from gradio import processing_utils
from gradio.utils import get_upload_folder

from ..deploy.errors import UserError
from .hosts import is_own, name_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BODY = 8 * 2**20
"""Bytes of a request that is no upload; a frame of a webcam is the largest, and has a tenth of it."""
UPLOAD = "/upload"
FRAMES = ("iframe", "frame", "embed", "object", "fencedframe")
"""What a page of another site may be made of; a link to this one is no such thing."""


class TooLarge(Exception):
    """A body that grew past its limit."""


class Guard:
    """Refuses what a browser sends for another site or by another's name (403), and bodies above a limit (413).

    Gradio itself answers any name, any origin unless the page is at localhost, and bounds the size of uploads alone.
    """

    def __init__(self, app: App, names: frozenset[str], more: Iterable[str] = (), most: int = MAX_BODY) -> None:
        """`names` and `more` are those of this machine and of proxies before it, whose pages are this page's own."""
        self.names, self.proxies = names, frozenset(map(name_of, more)) - {""}
        self.app, self.most = app, most

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if name := self._stranger(headers):
            why = f"this page answers no other site, nor to other names; if it is yours: vlseg demo --name {name[:253]}"
            return await _refuse(send, 403, why, scope["type"])
        if scope["type"] == "websocket" or scope["path"].rstrip("/").endswith(UPLOAD):
            return await self.app(scope, receive, send)
        if int(headers.get(b"content-length", "0") or 0) > self.most:
            return await _refuse(send, 413, "the request is too large", scope["type"])
        await self._counted(scope, receive, send)

    def _stranger(self, headers: dict[bytes, str]) -> str:
        """Return the name of the site for which a request comes, or by which, if it is not the page's; else nothing."""
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if not is_own(host, self.names | self.proxies):
            return name_of(host) or "NAME"
        if origin is None:
            mode, dest = headers.get(b"sec-fetch-mode"), headers.get(b"sec-fetch-dest")
            linked = mode == "navigate" and dest not in FRAMES
            return "NAME" if headers.get(b"sec-fetch-site") == "cross-site" and not linked else ""
        site, forwarded = origin.partition("://")[2].lower(), headers.get(b"x-forwarded-host", "").strip().lower()
        # any page may add this header to what it asks: it counts for a proxy that we were told of, and for no other
        own = {host.strip().lower()} | ({forwarded} if name_of(forwarded) in self.proxies else set())
        return "" if site in own else name_of(site) or "NAME"

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


async def _refuse(send: Send, status: int, why: str, kind: str) -> None:
    if kind == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})
