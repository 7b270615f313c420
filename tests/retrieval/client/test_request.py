"""Where a client asks, and with what token."""

import pytest

from retrieval.bearer_token import checked_token
from retrieval.client import HttpRetriever
from retrieval.client.request import is_loopback
from retrieval.spec import retriever_spec


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.8.9.1", "127.1", "0.0.0.0", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]",
        "localhost", "LOCALHOST", "localhost.", "a.localhost", "a.localhost.", "127.0.0.1.",
    ],
)  # fmt: skip
def test_this_machine_is_known_however_it_is_written(host: str) -> None:
    assert is_loopback(f"http://{host}:8000")


@pytest.mark.parametrize(
    "host",
    ["128.1", "10.0.0.1", "192.168.0.1", "[fe80::1]", "[::ffff:10.0.0.1]", "localhost.example.org", "mylocalhost", "x"],
)
def test_other_machines_are_not_taken_for_it(host: str) -> None:
    assert not is_loopback(f"http://{host}:8000")


@pytest.mark.parametrize(
    ("token", "message"),
    [("", "is empty"), ("schlüssel", "printable ASCII"), ("a\nb", "printable ASCII"), ("secret\n", "white space")],
)
def test_a_token_that_no_header_carries_is_refused_unseen(token: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HttpRetriever("http://127.0.0.1:9", token=token)
    with pytest.raises(ValueError, match=message) as refused:
        retriever_spec({"url": "http://127.0.0.1:9", "token": token})
    assert "token" in str(refused.value) and (not token or token not in str(refused.value))


def test_other_tokens_are_taken_as_they_are() -> None:
    assert checked_token("s3cret-_.~+/=") == "s3cret-_.~+/="
    spec = retriever_spec({"url": "http://127.0.0.1:9", "token": "s3cret"})
    assert spec.token is not None and spec.token.get_secret_value() == "s3cret"  # type: ignore[union-attr]
