"""Requests of each criterion, filled in."""

from typing import Any

from rewards.judge.judge import CRITERIA, MANY, JudgeRequest


def answer(text: str = "Arlen", **fields: Any) -> JudgeRequest:
    """Is `text` right, where Arlen is."""
    return JudgeRequest(
        criterion="answer",
        fields={"question": "Where was Mara Voss born?", "answer": text, "golds": ["Arlen"], **fields},
    )


def filled(criterion: str, text: str) -> JudgeRequest:
    """A request of which every field is `text`."""
    return JudgeRequest(criterion=criterion, fields={n: [text] if n in MANY else text for n in CRITERIA[criterion]})
