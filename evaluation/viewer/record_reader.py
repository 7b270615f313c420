"""What the index keeps of a whole trajectory record, beyond what its line in `index.jsonl` says."""

import re
from dataclasses import dataclass

from envs.question import Question
from evaluation.trajectory_segment import StoredTrajectory
from rewards.answer import exact_match

_SPACE = re.compile(r"\s+")
_MOST_TEXT = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSummary:
    """Columns that need the record itself. `em` is None where the question's answers are not known.

    `thought_words` is over the whole trajectory; `duplicate_queries` are searches that repeat an earlier one, case and
    spaces aside.
    """

    group_id: str
    unit_id: str
    view: int
    parent_id: str | None
    fork_turn: int | None
    sample: int
    answer: str | None
    em: float | None
    thought_words: int
    duplicate_queries: int
    sampled_tokens: int
    text: str


def summarise(stored: StoredTrajectory, question: Question | None) -> RecordSummary:
    """What is kept of one record; `text` is what a search over texts looks into."""
    trajectory = stored.trajectory
    queries = [
        _SPACE.sub(" ", call.argument).strip().lower()
        for turn in trajectory.turns
        for call in turn.calls
        if call.tool == "search"
    ]
    said: list[str] = [question.wording(trajectory.view)] if question and _has_view(question, trajectory.view) else []
    for turn in trajectory.turns:
        said.append(turn.action.thought)
        said.extend(request.argument for request in turn.action.requests)
        said.append(turn.action.answer or "")
        said.extend(hit.passage.title for call in turn.calls for hit in call.hits)
    scorable = question is not None and bool(question.golden_answers)
    return RecordSummary(
        group_id=trajectory.group_id,
        unit_id=trajectory.unit_id,
        view=trajectory.view,
        parent_id=trajectory.parent_id,
        fork_turn=trajectory.fork_turn,
        sample=trajectory.sample,
        answer=trajectory.final_answer,
        em=exact_match(trajectory.final_answer, question.golden_answers) if question and scorable else None,
        thought_words=sum(len(turn.action.thought.split()) for turn in trajectory.turns),
        duplicate_queries=len(queries) - len(set(queries)),
        sampled_tokens=sum(len(turn.action_ids) for turn in trajectory.turns),
        text="\n".join(filter(None, said))[:_MOST_TEXT],
    )


def _has_view(question: Question, view: int) -> bool:
    return 0 <= view <= len(question.paraphrases)
