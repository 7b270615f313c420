"""Recall of gold supports: `waymark evaluate-index indexes/mine --questions questions.jsonl.gz`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def evaluate_index(
    index: Annotated[Path, typer.Argument(help="Folder that build-index wrote.")],
    questions: Annotated[Path, typer.Option(help="Questions with supporting_ids (jsonl, plain or packed).")],
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Only such questions, for example selection=complete."),
    ] = None,
    k: Annotated[str, typer.Option(help="Depths of the recall, separated by commas.")] = "5,10",
    stepwise: Annotated[
        bool, typer.Option(help="Search each gold sub-question, earlier gold answers filled in.")
    ] = False,
    format: Annotated[str | None, typer.Option(help="Question format, or module:object of your own.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the figures to this file.")
    ] = None,
) -> None:
    """Measure how well an index finds the gold supports of questions, with 95 % intervals.

    Example: waymark evaluate-index indexes/musique --questions questions.jsonl.gz --where selection=complete --stepwise
    """
    from rich.console import Console
    from rich.table import Table

    from envs.datasets import check_supports, read_questions
    from evaluation.retrieval_quality import evaluate_index as evaluate
    from evaluation.retrieval_quality import select_questions
    from retrieval.index import open_index
    from scripts.assignments import parse_assignments
    from scripts.stages import StageBar

    try:
        depths = [int(depth) for depth in k.split(",")]
    except ValueError:
        raise ValueError(f"--k got {k!r}; write numbers separated by commas, for example 5,10") from None
    selected = select_questions(read_questions(questions, format), parse_assignments(where or [], option="--where"))
    opened = open_index(index)
    supports = check_supports(selected, lambda passage_id: passage_id in opened)
    if not supports.ok:
        typer.echo(f"warning: {supports.message()}", err=True)
    with StageBar() as bar:
        quality = evaluate(
            opened,
            selected,
            ks=depths,
            stepwise=stepwise,
            progress=lambda done, total: bar("searching", done, total),
        )
    table = Table("figure", "value", "95 % interval")
    names = [name.removesuffix("_low") for name in quality.summary if name.endswith("_low")]
    for name in names:
        low, high = quality.summary[f"{name}_low"], quality.summary[f"{name}_high"]
        table.add_row(name, f"{quality.summary[name]:.3f}", f"{low:.3f} to {high:.3f}")
    Console().print(table)
    typer.echo(
        f"n = {quality.summary['n']} questions, {quality.summary['num_searches']} searches"
        f"{' (stepwise)' if stepwise else ''}, {quality.summary['not_annotated']} questions without annotation left out"
    )
    if json_file is not None:
        figures = {
            **quality.summary,
            "missing_supports": len(supports.missing),
            "missing_by_question": supports.missing_by_question,
            "where": where or [],
            "index_hash": opened.manifest.index_hash,
            "backend": opened.manifest.backend,
        }
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from scripts.cli import run

    run(evaluate_index)
