"""Look at runs in a local web page: `waymark view runs`."""

from pathlib import Path
from typing import Annotated

import typer


def view(
    runs: Annotated[list[Path], typer.Argument(help="Runs, evaluations, or folders that hold some.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8700,
    host: Annotated[
        str, typer.Option(help="Address to listen on. There is no login: another than this machine's is open to all.")
    ] = "127.0.0.1",
    questions: Annotated[
        list[Path] | None,
        typer.Option(help="Questions (jsonl) beside those that a run's config names; repeatable."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of a model, for tokens of runs that name none which is there.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for the index of trajectories. Default: the user's cache folder.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name for the page, such as a tunnel's; repeatable.")
    ] = None,
) -> None:
    """Look at runs, live or finished, in a local web page: curves, trajectories, evidence.

    Example: waymark view runs --port 8700

    Example: waymark view evaluations/first evaluations/second --questions worlds/tiny/questions.test.jsonl
    """
    from evaluation.viewer.serving import is_local, serve_viewer

    if not is_local(host):
        typer.echo(f"warning: {host} can be reached from other machines, and the viewer has no login", err=True)
    serve_viewer(
        runs,
        host=host,
        port=port,
        questions=questions or [],
        cache=cache,
        tokenizer=tokenizer,
        hosts=allow_host or [],
        announce=lambda line: typer.echo(f"viewing {line}"),
    )


if __name__ == "__main__":
    from scripts.cli import run

    run(view)
