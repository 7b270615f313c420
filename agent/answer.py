"""An answer as a policy gives it: its text, and the marks in it that cite passages by number."""

import re

from agent.action import Action

CITATION = re.compile(r"\[\s*([0-9]{1,6}(?:\s*,\s*[0-9]{1,6})*)\s*\]")


def answer_action(content: str, *, thought: str, citations: bool, empty_answer: bool) -> Action:
    """The action that gives `content` as the answer; invalid where nothing is left of it and that is not allowed.

    Args:
        citations: marks such as `[2]` are citations, and no part of the answer.
        empty_answer: an answer may be empty.
    """
    answer, numbers = _split_citations(content.strip()) if citations else (content.strip(), ())
    if not answer and not empty_answer:
        return Action(kind="invalid", thought=thought, citations=numbers, error="the answer is empty")
    return Action(kind="answer", thought=thought, answer=answer, citations=numbers)


def _split_citations(answer: str) -> tuple[str, tuple[int, ...]]:
    """The answer without its marks, and the cited numbers in order: "Rome [2][5, 6]" -> ("Rome", (2, 5, 6))."""
    numbers = tuple(int(n) for mark in CITATION.findall(answer) for n in mark.split(","))
    bare = re.sub(r"\s+([.,;:!?])", r"\1", re.sub(r"[ \t]{2,}", " ", CITATION.sub("", answer))) if numbers else answer
    return bare.strip(), numbers
