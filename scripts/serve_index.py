"""Serve an index over HTTP: `waymark serve-index indexes/mine --port 8000`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError


def serve_index(
    index: Annotated[
        list[str],
        typer.Argument(
            help="Index folder, config file of a retriever (.yaml, .json) or URL; several are fused by rank (hybrid)."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every network, and wants --token-file.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    replicas: Annotated[int, typer.Option(help="Processes that share the port and one copy of the index.")] = 1,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File that holds the bearer token clients must send. Default: WAYMARK_SERVER_TOKEN, if set."),
    ] = None,
    window_ms: Annotated[
        float, typer.Option(help="How long a query waits for others to share its batch; 0: those of the same moment.")
    ] = 0.0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the server, for example max_k=100; repeatable."),
    ] = None,
) -> None:
    """Answer POST /retrieve, POST /access, GET /health and GET /metrics until SIGTERM or Ctrl-C.

    Example: waymark serve-index indexes/bm25 --port 8000 --replicas 4 --set max_batch=128
    """
    from retrieval.server.serve import serve
    from retrieval.server.settings import ServerSettings
    from scripts.assignments import nested, parse_assignments
    from scripts.server_token import given_token

    given: dict[str, Any] = nested(parse_assignments(setting or [], option="--set"))
    if unknown := sorted(set(given) - set(ServerSettings.model_fields)):
        names = ", ".join(ServerSettings.model_fields)
        raise ValueError(f"--set: the server has no setting {', '.join(unknown)}; its settings: {names}")
    token = given_token(token_file)
    options = {"host": host, "port": port, "replicas": replicas, "token": token, "window_s": window_ms / 1000}
    try:
        settings = ServerSettings.model_validate(options | given)
    except ValidationError as error:
        _refuse_options(error, {"port": port, "replicas": replicas, "window_s": window_ms}, given)
        raise
    serve(index, settings, announce=lambda line: typer.echo(f"serving {line}"))


_OPTIONS = {
    "port": ("--port", "give 0 to 65535"),
    "replicas": ("--replicas", "give 1 to 256"),
    "window_s": ("--window-ms", "give 0 to 1000 milliseconds"),
}


def _refuse_options(error: ValidationError, typed: Mapping[str, float], given: Collection[str]) -> None:
    """Name an option that does not hold as it was typed, not as the setting that it becomes.

    Raises:
        ValueError: one of `typed` is at fault, and no --set of that name stands above it.
    """
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        if name in typed and name not in given:
            option, allowed = _OPTIONS[name]
            raise ValueError(f"{option} is {typed[name]:.15g}; {allowed}") from None


if __name__ == "__main__":
    from scripts.cli import run

    run(serve_index)
