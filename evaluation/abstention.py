"""Does an episode end without committing itself? It abstains with an answer that declines, or by ending without one.

Running out of turns or tokens is no abstention: the policy wanted to go on.
"""

from agent.trajectory import Trajectory
from rewards.answer import has_answer, normalize_answer

DECLINING = frozenset(
    normalize_answer(text)
    for text in (
        *("unknown", "I don't know", "I do not know", "not known", "no answer", "noanswer", "unanswerable", "none"),
        *("n/a", "not available", "not enough information", "insufficient information", "insufficient evidence"),
        *("cannot be determined", "cannot determine", "can't be determined", "not found", "no information found"),
        *("cannot answer", "I cannot answer", "not specified", "not mentioned", "undetermined", "unclear"),
    )
)
"""Answers, normalised, that commit themselves to nothing."""


def abstains(trajectory: Trajectory) -> bool:
    """True if the episode's answer is blank or declines, or its text ended without an answer."""
    if trajectory.finish_reason == "no_answer":
        return True
    if trajectory.finish_reason != "answered":
        return False
    return not has_answer(trajectory) or normalize_answer(trajectory.final_answer or "") in DECLINING
