"""What the server answers where it does not answer the question: a status, and a sentence that says why."""

from collections.abc import Mapping


class Refusal(Exception):
    """Ends a request with `status` and the body `{"error": message}`."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


def bad_request(message: str) -> Refusal:
    """422: the body is JSON, and says something that cannot be done."""
    return Refusal(422, message)


def come_back(message: str, retry_after_s: int) -> Refusal:
    """503: nothing is wrong with the request; the same one may be answered later."""
    return Refusal(503, message, {"Retry-After": str(retry_after_s)})
