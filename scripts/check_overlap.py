"""Evaluation questions among training questions: `waymark check-overlap train.jsonl --questions test.jsonl`."""

import json
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer


def check_overlap(
    training: Annotated[list[Path], typer.Argument(help="Files of training questions, in any format of --questions.")],
    questions: Annotated[Path, typer.Option(help="File of evaluation questions.")],
    n: Annotated[int, typer.Option(help="Words of an n-gram: 8, or GPT-3's 13.")] = 8,
    share: Annotated[
        float, typer.Option(help="Share of its n-grams in one training question from which it is contaminated.")
    ] = 0.5,
    max_common: Annotated[
        int, typer.Option(help="N-grams in more training questions than this are a template's and do not count.")
    ] = 10,
    format: Annotated[str | None, typer.Option(help="Question format, or module:object of your own.")] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="Also: what this evaluation answers with and without the overlap. Repeatable."
        ),
    ] = None,
    measure: Annotated[str, typer.Option(help="With --evaluation: the figure.")] = "em",
    clean: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the ids of the questions without overlap here, one a line."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write counts and every overlap to this file.")
    ] = None,
) -> None:
    """Count the evaluation questions that stand among training questions, by hash and by n-grams, with examples.

    Example: waymark check-overlap questions.train.jsonl --questions questions.test.jsonl

    Example: waymark check-overlap nq_train.jsonl hotpotqa_train.jsonl --questions test.jsonl --n 13
    --evaluation evaluations/first
    """
    from rich.console import Console

    from envs.datasets import read_questions
    from evaluation.contamination import check_contamination
    from evaluation.evaluation_file import read_evaluation
    from evaluation.overlap_report import clean_figures, clean_table, overlap_record, print_overlap
    from evaluation.trajectory_record import plain

    files = {str(path): read_evaluation(path) for path in evaluation or []}
    asked = read_questions(questions, format)
    found = check_contamination(
        asked,
        chain.from_iterable(read_questions(path, format) for path in training),
        n=n,
        share=share,
        max_common=max_common,
    )
    figures = {name: clean_figures(file, found, measure) for name, file in files.items()}
    print_overlap(found, [clean_table(figures, measure)] if figures else [], Console())
    if clean is not None:
        clean.parent.mkdir(parents=True, exist_ok=True)
        clean.write_text("".join(f"{question_id}\n" for question_id in found.clean_ids), encoding="utf-8")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        record = {**overlap_record(found), "evaluations": figures}
        json_file.write_text(json.dumps(plain(record), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from scripts.cli import run

    run(check_overlap)
