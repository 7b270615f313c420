"""What keeps a page that shows other people's texts harmless, and strangers' pages away from it.

A page may load nothing but its own files, run no inline script or style, and be framed by nobody. A request must name
this machine as its host, so that a name on the internet that is made to point to 127.0.0.1 reads nothing.
"""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: dict[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer a form of this very page would be sent without its origin
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """ASGI middleware: refuses other hosts and methods that change something from other sites, and sets the headers.

    Args:
        app: what it stands before.
        hosts: names under which the page may be asked for, their ports aside; "*" is any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host_name(host) for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    own[name] = value
            await send(message)

        if refusal:
            await PlainTextResponse(refusal, status_code=403)(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> str:
        host = host_name(headers.get("host", ""))
        if "*" not in self._hosts and host not in self._hosts:
            return (
                f"This viewer answers for {', '.join(sorted(self._hosts))} only; it was asked for under another name."
            )
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None:
            name = origin.partition("://")[2]
            if name != headers.get("host"):
                return "A request that changes something must come from the viewer's own page."
        return ""


def host_name(host: str) -> str:
    """A Host header without its port: `127.0.0.1:8080` gives `127.0.0.1`, `[::1]:80` gives `[::1]`."""
    if host.startswith("["):
        return host[: host.find("]") + 1].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
