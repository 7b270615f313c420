"""An episode as a person follows it: one object a turn while it goes on, and one at the end.

They hold plain values and become JSON by `record()`. What is in them was written by documents and models: whoever shows
it escapes it for where it is shown.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent.trajectory import Trajectory, Turn
from envs.question import Question
from retrieval.passage import Passage
from rewards.answer import exact_match


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPassage:
    """A passage as it was shown: under which number, whether only in part, and whether an earlier turn had shown it.

    `text` is the whole passage's, also where the policy saw a part; `is_gold` is None where supports are not annotated.
    """

    number: int
    id: str
    title: str
    text: str
    truncated: bool = False
    again: bool = False
    is_gold: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCall:
    """A search or an opened document: `argument` is the query or the document's name, `found` how many hits it had."""

    tool: str
    argument: str
    status: str
    found: int
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTurn:
    """One turn, counted from 1: `kind` is call, answer or invalid, and `error` says what is wrong with an invalid one.

    `calls` were carried out, `requests` were asked for (tool and argument); `passages` are those shown after it.
    """

    number: int
    kind: str
    thought: str
    requests: tuple[tuple[str, str], ...] = ()
    calls: tuple[AskedCall, ...] = ()
    passages: tuple[AskedPassage, ...] = ()
    answer: str | None = None
    error: str | None = None
    judgement: bool | None = None
    goal: str | None = None
    reflection: bool | None = None

    def record(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCitation:
    """A number that the answer cites, and the passage that stood under it, or None where none was ever shown so."""

    number: int
    passage: AskedPassage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedEnd:
    """How the episode ended.

    Attributes:
        finish_reason, answer: of the trajectory; `answer` is None where there is none.
        citations: in the order in which the answer has them, each number once.
        golden_answers, exact_match: empty and None where the question's answers are not known.
        fault: what the engine or the retriever said where it ended the episode.
    """

    question: str
    finish_reason: str
    answer: str | None
    citations: tuple[AskedCitation, ...]
    golden_answers: tuple[str, ...]
    exact_match: bool | None
    num_turns: int
    num_searches: int
    sampled_tokens: int
    seconds: float
    fault: str | None = None

    def record(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def asked_turn(turn: Turn, number: int, question: Question, seen: Mapping[str, AskedPassage]) -> AskedTurn:
    """A turn of an episode; `seen` are the passages of the turns before it, by id."""
    texts = {hit.passage.id: hit.passage for call in turn.calls for hit in call.hits}
    supports = set(question.supporting_ids)
    passages = []
    for shown in turn.shown:
        passage = texts.get(shown.passage_id) or _earlier(shown.passage_id, seen)
        passages.append(
            AskedPassage(
                number=shown.number,
                id=passage.id,
                title=passage.title,
                text=passage.text,
                truncated=shown.truncated,
                again=shown.passage_id in seen,
                is_gold=passage.id in supports if supports else None,
            )
        )
    action = turn.action
    return AskedTurn(
        number=number,
        kind=action.kind,
        thought=action.thought,
        requests=tuple((request.tool, request.argument) for request in action.requests),
        calls=tuple(
            AskedCall(tool=c.tool, argument=c.argument, status=c.status, found=len(c.hits), latency_s=c.latency_s)
            for c in turn.calls
        ),
        passages=tuple(passages),
        answer=action.answer,
        error=action.error,
        judgement=action.judgement,
        goal=action.goal,
        reflection=action.reflection,
    )


def asked_end(
    trajectory: Trajectory, question: Question, turns: list[AskedTurn], *, seconds: float, fault: str | None = None
) -> AskedEnd:
    """The end of an episode whose turns were told."""
    under = {passage.number: passage for turn in turns for passage in turn.passages}
    answer, golds = trajectory.final_answer, question.golden_answers
    numbers = trajectory.turns[-1].action.citations if answer is not None else ()
    return AskedEnd(
        question=question.text,
        finish_reason=trajectory.finish_reason,
        answer=answer,
        citations=tuple(AskedCitation(number=n, passage=under.get(n)) for n in dict.fromkeys(numbers)),
        golden_answers=golds,
        exact_match=exact_match(answer, golds) == 1.0 if golds else None,
        num_turns=trajectory.num_turns,
        num_searches=trajectory.num_searches,
        sampled_tokens=sum(len(turn.action_ids) for turn in trajectory.turns),
        seconds=seconds,
        fault=fault,
    )


def _earlier(passage_id: str, seen: Mapping[str, AskedPassage]) -> Passage:
    """A passage that no call of its turn brought: what an earlier turn knows of it."""
    known = seen.get(passage_id)
    return Passage(id=passage_id, title=known.title if known else "", text=known.text if known else "")
