"""BEIR's folders: `queries.jsonl`, and `qrels/test.tsv` (else dev, else train) with the relevant documents.

Only queries with a judgement are read. A document with a score above 0 is a support. There are no golden answers, so
what is measured is what is found.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from envs.datasets.lines import numbered_lines
from envs.datasets.question_error import QuestionError
from envs.datasets.row_fields import id_of, text_of
from envs.question import Question

SPLITS = ("test", "dev", "train")


def read_beir(path: Path) -> Iterator[Question]:
    """The judged queries of a folder, in the order of its queries.

    Raises:
        FileNotFoundError: the folder lacks queries or judgements.
        QuestionError: a broken line.
    """
    split = next((split for split in SPLITS if (path / "qrels" / f"{split}.tsv").is_file()), None)
    queries = next(
        (path / f"queries.jsonl{end}" for end in ("", ".gz") if (path / f"queries.jsonl{end}").is_file()), None
    )
    if split is None or queries is None:
        raise FileNotFoundError(
            f"{path} is no BEIR folder: it needs queries.jsonl and qrels/{{{','.join(SPLITS)}}}.tsv"
        )
    relevant = _judgements(path / "qrels" / f"{split}.tsv")
    for number, line in numbered_lines(queries):
        try:
            row = json.loads(line)
            question_id = id_of(row, "_id", "id", otherwise="")
            text = text_of(row, "text")
        except (ValueError, AttributeError) as error:
            raise QuestionError(queries, number, str(error)) from error
        if question_id in relevant:
            supports = tuple(relevant[question_id])
            yield Question(id=question_id, text=text, golden_answers=(), supporting_ids=supports, split=split)


def _judgements(path: Path) -> dict[str, list[str]]:
    relevant: dict[str, list[str]] = {}
    for number, line in numbered_lines(path):
        cells = line.rstrip("\n").split("\t")
        if len(cells) == 4:
            cells = [cells[0], cells[2], cells[3]]  # TREC's form has an iteration in between
        if len(cells) != 3:
            raise QuestionError(path, number, f"a judgement is query, document and score, got {len(cells)} cells")
        query, document, score = cells
        if number == 1 and not score.strip().lstrip("-").isdigit():
            continue  # the header
        try:
            is_relevant = int(score) > 0
        except ValueError:
            raise QuestionError(path, number, f"the score must be a whole number, got {score!r}") from None
        found = relevant.setdefault(query, [])
        if is_relevant:
            found.append(document)
    return relevant
