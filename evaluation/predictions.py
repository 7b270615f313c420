"""Answers that another system has written down, scored like those of a policy: `predictions:FILE`.

A file is HotpotQA's (`{"answer": {id: text}, "sp": {id: [[title, sentence], ...]}}`), a mapping of ids to answers, or
jsonl of `{id, answer, supports}` (`prediction` or `predicted_answer` for the answer; MuSiQue's files are of that form).
`supports` are passage ids, and count as what the answer cites; of HotpotQA's `sp` the titles do. A question without a
prediction is an outage of the system: it counts as wrong, and stands apart.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.action import Action
from agent.trajectory import Shown, Trajectory, Turn
from envs.question import Question

PREFIX = "predictions:"
"""Begins the name of a policy that is a file of answers."""

_ANSWERS = ("answer", "prediction", "predicted_answer", "pred")
_LISTED = 5


def read_predictions(path: str | Path, questions: Sequence[Question]) -> list[Trajectory]:
    """One trajectory for each question, in their order: the answer that the file has, or none (`engine_failure`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of a known form, repeats an id, or answers questions that are not among those asked.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no predictions at {path}; give a .json or .jsonl file")
    answers, supports = _parsed(path)
    known = {question.id for question in questions}
    unknown = [id_ for id_ in answers if id_ not in known]
    if unknown:
        first = ", ".join(unknown[:_LISTED])
        raise ValueError(
            f"{path} answers {len(unknown)} questions that are not among the {len(known)} asked (first: {first}); give "
            "the questions that it was made for, or drop those answers"
        )
    return [_trajectory(question, answers.get(question.id), supports.get(question.id, ())) for question in questions]


def _parsed(path: Path) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    text = path.read_text(encoding="utf-8")
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return _of_lines(path, text)
    if isinstance(whole, dict) and isinstance(whole.get("answer"), dict):
        named = whole.get("sp") or {}
        supports = {str(id_): tuple(dict.fromkeys(str(fact[0]) for fact in facts)) for id_, facts in named.items()}
        return {str(id_): _text(path, id_, answer) for id_, answer in whole["answer"].items()}, supports
    if isinstance(whole, dict) and not ("id" in whole and any(name in whole for name in _ANSWERS)):
        return {str(id_): _text(path, id_, answer) for id_, answer in whole.items()}, {}
    return _of_rows(path, whole if isinstance(whole, list) else [whole])


def _of_lines(path: Path, text: str) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg})") from error
    return _of_rows(path, rows)


def _of_rows(path: Path, rows: Sequence[Any]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    answers: dict[str, str] = {}
    supports: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(rows, start=1):
        name = next((name for name in _ANSWERS if isinstance(row, Mapping) and name in row), None)
        if name is None or row.get("id") in (None, ""):
            raise ValueError(f"{path}, row {number}: a prediction is an object with id and {' or '.join(_ANSWERS)}")
        id_ = str(row["id"])
        if id_ in answers:
            raise ValueError(f"{path}, row {number}: question {id_!r} is answered twice; keep one answer")
        answers[id_] = _text(path, id_, row[name])
        named = row.get("supports") or ()
        if isinstance(named, str) or not all(isinstance(support, str) for support in named):
            raise ValueError(f"{path}, row {number}: supports is a list of passage ids, got {named!r}")
        supports[id_] = tuple(named)
    return answers, supports


def _text(path: Path, id_: Any, answer: Any) -> str:
    if not isinstance(answer, str):
        raise ValueError(f"{path}: the answer to {id_!r} must be a text, got {answer!r}")
    return answer


def _trajectory(question: Question, answer: str | None, supports: Sequence[str]) -> Trajectory:
    turns: tuple[Turn, ...] = ()
    if answer is not None:
        cited = tuple(Shown(number=number, passage_id=id_) for number, id_ in enumerate(dict.fromkeys(supports), 1))
        action = Action(kind="answer", answer=answer, citations=tuple(shown.number for shown in cited))
        turns = (Turn(action_ids=(), action_logprobs=(), action_versions=(), action=action, shown=cited),)
    return Trajectory(
        id=f"eval-{question.id}-0",
        question_id=question.id,
        unit_id=f"eval-{question.id}",
        group_id=f"eval-{question.id}",
        prompt_ids=(),
        turns=turns,
        finish_reason="engine_failure" if answer is None else "answered",
    )
