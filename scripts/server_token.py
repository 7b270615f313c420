"""The bearer token that a serving verb was given, in a file or in the environment: no command line shows it."""

import os
from pathlib import Path

from retrieval.bearer_token import checked_token

VARIABLE = "WAYMARK_SERVER_TOKEN"


def given_token(token_file: Path | None) -> str | None:
    """What the file holds, without white space around it; without a file, the environment's; None where neither is.

    An empty one is refused: a server that was meant to ask for a token must not start without.

    Raises:
        ValueError: the file cannot be read, or the token is empty or cannot stand in a header.
    """
    if token_file is None:
        source, token = VARIABLE, os.environ.get(VARIABLE)
        if token is None:
            return None
    else:
        source = f"--token-file {token_file}"
        try:
            token = token_file.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(
                f"{source} cannot be read ({error.strerror or error}); name a file that holds the token"
            ) from None
        except UnicodeDecodeError:
            raise ValueError(f"{source} is no text; name a file that holds the token, printable ASCII alone") from None
    token = token.strip()
    if not token:
        way_out = f"unset {VARIABLE}" if token_file is None else "leave --token-file out"
        raise ValueError(f"{source} is empty; put the token into it, or {way_out} to let everybody in")
    try:
        return checked_token(token)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
