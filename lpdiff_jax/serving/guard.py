"""What stands before every request: whose it is, how much it may send, what pages may do."""

import hmac
import json
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lpdiff_jax.serving.metrics import Metrics
from lpdiff_jax.serving.settings import Settings

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
# The page itself asks for the token, and probes need none.
_OPEN = ("/", "/healthz")


class TooLarge(Exception):
    """A request has sent more bytes than it may."""


class Guard:
    """Checks host, origin and token, counts bytes, and adds the headers that bind pages."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        begun = time.monotonic()
        status = {"code": 500}

        async def send_bound(message: Message) -> None:
            if message["type"] == "http.response.start":
                status["code"] = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            refused = self._refusal(scope)
            if refused:
                await _answer(send_bound, *refused)
            else:
                await self._pass_on(scope, receive, send_bound)
        finally:
            self._metrics.count("requests", f'status="{status["code"]}"')
            self._metrics.time("request", time.monotonic() - begun)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, _counted(receive, self._settings.max_upload), send_noted)
        except TooLarge:
            if not started:
                most = self._settings.max_upload
                await _answer(send, 413, f"a request may have {most:,} bytes; this one has more")

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason where a request is not let in."""
        headers = Headers(scope=scope)
        if not self._settings.knows_host(headers.get("host", "")):
            return 421, "this server does not go by that name (Host)"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers["host"]:
            return 403, "requests of other sites' pages are not taken (Origin)"
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return 400, "Content-Length is no number"
        if int(length) > self._settings.max_upload:
            return 413, f"a request may have {self._settings.max_upload:,} bytes"
        return self._token_refusal(scope["path"], headers)

    def _token_refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        token = self._settings.token
        if not token or path in _OPEN or path.startswith("/static/"):
            return None
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if hmac.compare_digest(given.encode(), token.encode()):
            return None
        return 401, "this server wants a token (Authorization: Bearer ...)"


def _counted(receive: Receive, most: int) -> Callable[[], Awaitable[Message]]:
    """`receive`, which stops where more bytes come than may, whatever the headers said."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > most:
            raise TooLarge
        return message

    return counted


async def _answer(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
