"""Who may ask: the ASGI layer in front of everything else.

A request needs the page's token, from a cookie that the page's own address set (``HttpOnly``, ``SameSite=Strict``) or
in an ``Authorization`` header. ``Host`` must be this server's, so that a foreign name which was pointed at this address
(DNS rebinding) reaches nothing. What changes something must come from the page itself (``Origin``), or carry the
header, which no foreign page can set. Answers forbid scripts, frames and types that this server did not mean.
"""

import base64
import binascii
import hmac
import ipaddress
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
#: Paths that say nothing and change nothing.
OPEN = frozenset({"/health", "/static/page.css", "/static/icon.svg"})
CLOSED_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>fscs app</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/static/page.css">
</head><body><main class="locked"><div class="welcome"><img src="/static/icon.svg" alt="" width="56" height="56">
<h2>This page is locked</h2><p class="lead">Open the address that <code>fscs app</code> printed in the terminal. It ends
in <code>?token=</code> and the key.</p></div></main></body></html>"""


class Guard:
    """Lets requests through to an application, or answers them itself."""

    def __init__(self, app: ASGIApp, *, token: str, port: int, exposed: bool) -> None:
        """Guard an application.

        Args:
            port: in the cookie's name, since browsers share cookies among the ports of a host.
            exposed: whether other machines may ask: then any address and this machine's names are fine as ``Host``.
        """
        self._app, self._token, self._exposed = app, token, exposed
        self._cookie = f"fscs-{port}"
        self._own_names = {"localhost", socket.gethostname().casefold(), socket.getfqdn().casefold()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_safely)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._is_token(_authorization(headers)):  # no foreign page can send it, whatever its name
            return None
        if not self._is_own_host(headers.get("host", "")):
            return _refuse(403, "this address is not the server's; open the one that 'fscs app' printed")
        if scope["path"] in OPEN and scope["method"] in ("GET", "HEAD"):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["path"] == "/" and scope["method"] == "GET" and self._is_token(query.get("token", [""])[0]):
            rest = urlencode({key: values for key, values in query.items() if key != "token"}, doseq=True)
            entry = RedirectResponse(f"/?{rest}" if rest else "/", status_code=303)
            entry.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/", max_age=30 * 86400)
            return entry
        if not self._is_token(self._from_cookie(headers)):
            if scope["path"] == "/" and scope["method"] == "GET":
                return Response(CLOSED_PAGE, status_code=401, media_type="text/html")
            return _refuse(401, "this needs the page's token; open the address that 'fscs app' printed")
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") and scope["path"] != "/":
            return _refuse(403, "another site's page may not ask here")
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin", "")
            if origin.partition("://")[2] != headers.get("host") or not origin.startswith(("http://", "https://")):
                return _refuse(403, "another site's page may not change anything here")
        return None

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token.encode())

    def _from_cookie(self, headers: Mapping[str, str]) -> str:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return morsel.value if morsel is not None else ""

    def _is_own_host(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.removeprefix("[").removesuffix("]").casefold()
        if name == "localhost":
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return self._exposed and name in self._own_names
        return self._exposed or address.is_loopback  # an address cannot be pointed elsewhere, a name can


def _authorization(headers: Mapping[str, str]) -> str:
    """The token of ``Authorization: Bearer`` or ``Token``, or the password of ``Basic``; empty if there is none."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.casefold() in ("bearer", "token"):
        return value.strip()
    if kind.casefold() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return ""
    return ""


def _refuse(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status_code=status)
