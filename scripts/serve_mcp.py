"""Serve an index to MCP clients: `waymark serve-mcp indexes/mine`."""

from pathlib import Path
from typing import Annotated, Any

import typer


def serve_mcp(
    index: Annotated[
        list[str],
        typer.Argument(
            help="Index folder, config file of a retriever (.yaml, .json) or URL; several are fused by rank (hybrid)."
        ),
    ],
    http: Annotated[
        bool, typer.Option("--http", help="Serve over streamable HTTP instead of standard input and output.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(help="With --http: address to listen on, 127.0.0.1 by default; 0.0.0.0 wants a token."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="With --http: port to listen on, 8000 by default; 0 takes a free one.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="With --http: file that holds the bearer token clients must send. "
            "Default: WAYMARK_SERVER_TOKEN, if set."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the server, for example max_k=20; repeatable."),
    ] = None,
) -> None:
    """Give any agent that speaks MCP the tools search(query, k) and get(id or title).

    Example: waymark serve-mcp indexes/bm25        (what an MCP client starts; --http --port 8000 serves a network)
    """
    from retrieval.server.mcp_server import SETTINGS, serve_mcp
    from retrieval.server.settings import ServerSettings
    from scripts.assignments import nested, parse_assignments
    from scripts.server_token import given_token

    for name, value in (("--host", host), ("--port", port), ("--token-file", token_file)):
        if value is not None and not http:
            raise ValueError(f"{name} is for a server over HTTP; add --http, or leave {name} out")
    given: dict[str, Any] = nested(parse_assignments(setting or [], option="--set"))
    if unknown := sorted(set(given) - set(SETTINGS)):
        raise ValueError(f"--set: there is no setting {', '.join(unknown)} here; the settings: {', '.join(SETTINGS)}")
    options: dict[str, Any] = {}
    if http:
        address = {"host": host, "port": port, "token": given_token(token_file)}
        options = {name: value for name, value in address.items() if value is not None}
    settings = ServerSettings.model_validate(options | given)
    serve_mcp(index, settings, over_http=http, announce=lambda line: typer.echo(f"serving {line}"))


if __name__ == "__main__":
    from scripts.cli import run

    run(serve_mcp)
