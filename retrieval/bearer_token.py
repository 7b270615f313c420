"""What a bearer token may be, for the server that wants one and the client that sends it."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr


def checked_token(token: str) -> str:
    """The token, if a header can carry it.

    Raises:
        ValueError: it is empty, begins or ends with white space, or has a character that is not printable ASCII. The
            message does not show the token.
    """
    if not token:
        raise ValueError("the token is empty; give the one that the server was started with, or none at all")
    if token != token.strip():
        raise ValueError("the token begins or ends with white space, which a header does not keep; strip it")
    if not (token.isascii() and token.isprintable()):
        raise ValueError("the token has a character that no header can carry; use printable ASCII alone")
    return token


def _checked_secret(token: SecretStr) -> SecretStr:
    checked_token(token.get_secret_value())
    return token


BearerToken = Annotated[SecretStr, AfterValidator(_checked_secret)]
"""A field of a config that holds one: it is not shown when the config is, and what no header can carry is refused."""
