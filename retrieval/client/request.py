"""What a client of a retrieval server can refuse before it asks, and where it asks."""

from collections.abc import Sequence
from ipaddress import ip_address
from socket import inet_aton

import httpx

from retrieval.passage import is_text
from retrieval.request import RequestError, check_depth, check_queries


def is_loopback(url: str) -> bool:
    """True if the URL's host is this machine, however it is written: 127.1, [::ffff:127.0.0.1], 0.0.0.0, localhost."""
    host = httpx.URL(url).host.rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        try:
            address = ip_address(inet_aton(host))  # short forms, which the system takes too
        except OSError:
            return host == "localhost" or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def checked_url(url: str) -> str:
    """The address of a server without the path that its users often add.

    Raises:
        ValueError: no URL, or none of a server.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"{url!r} is not a URL ({error}); write http://host:port") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is not the URL of a server; write http://host:port")
    return url.rstrip("/").removesuffix("/retrieve")


def check_search(queries: Sequence[str], k: int) -> None:
    """Refuse what needs no server to refuse it; the rest is the server's.

    Raises:
        RequestError: as `check_request` in process.
    """
    check_queries(queries)
    check_depth(k)
    for i, query in enumerate(queries):
        if not is_text(query):
            raise RequestError(f"query {i} holds half a surrogate pair, which is no character; drop it")


def may_be_an_id(passage_id: object) -> bool:
    """False for what no corpus has and no request can carry."""
    return isinstance(passage_id, str) and bool(passage_id.strip()) and is_text(passage_id)


def retry_after_s(text: str | None) -> float:
    """The seconds of a Retry-After; 0 for a date or nonsense."""
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
