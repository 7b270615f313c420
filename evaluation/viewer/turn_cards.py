"""One trajectory prepared for a reader: a card a turn, with gold, citations, repeats and what credit made of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.trajectory import ToolCall, Trajectory, Turn
from envs.question import Question
from retrieval.passage import Passage
from rewards.answer import exact_match, f1
from rewards.citation import resolve_citations


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A value and its share of the longest bar beside it, in [-1, 1]."""

    name: str
    value: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageCard:
    """A passage as it was shown; `repeated` if it had been shown already, by an earlier turn or search."""

    number: int
    id: str
    title: str
    text: str
    gold: bool
    cited: bool
    repeated: bool
    truncated: bool
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCard:
    """One call asked for; `call` is None where it was not carried out."""

    tool: str
    argument: str
    repeated: bool
    call: ToolCall | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationCard:
    """A number in the answer and what it stood for (None where nothing was shown under it)."""

    number: int
    passage_id: str | None
    title: str
    gold: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCard:
    """One turn. `number` counts from 1."""

    number: int
    turn: Turn
    requests: Sequence[RequestCard]
    passages: Sequence[PassageCard]
    citations: Sequence[CitationCard]
    rewards: Sequence[Bar]
    advantage: Bar | None
    gold_found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryView:
    """A trajectory with everything that its page says in words."""

    trajectory: Trajectory
    step: int
    question: Question | None
    wording: str | None
    em: float | None
    f1: float | None
    reward: float | None
    outcomes: Sequence[Bar]
    cards: Sequence[TurnCard]
    supports_missed: Sequence[str]

    @property
    def has_credit(self) -> bool:
        """True if rewards or advantages were stored with it."""
        return bool(self.outcomes) or any(card.rewards or card.advantage for card in self.cards)


def trajectory_view(
    trajectory: Trajectory, question: Question | None, *, step: int = 0, extra: Mapping[str, Any] | None = None
) -> TrajectoryView:
    """Prepare a trajectory; `extra` is what `evaluation.turn_scores` wrote, read leniently."""
    extra = extra or {}
    rewards = extra.get("rewards")
    named = {str(k): v for k, v in rewards.items() if isinstance(v, Mapping)} if isinstance(rewards, Mapping) else {}
    advantages = _numbers(extra.get("advantages"), trajectory.num_turns)
    outcomes = {name: _number(score.get("outcome")) for name, score in named.items()}
    by_turn = {name: _numbers(score.get("turn"), trajectory.num_turns) for name, score in named.items()}
    values = [v for v in (*outcomes.values(), *(v for row in by_turn.values() for v in row)) if v is not None]
    longest = max((abs(v) for v in values), default=0.0)
    strongest = max((abs(v) for v in advantages if v is not None), default=0.0)
    gold = set(question.supporting_ids) if question else set()
    cards = []
    seen: set[str] = set()
    asked: set[tuple[str, str]] = set()
    cited = set(resolve_citations(trajectory).passage_ids)
    titles = {hit.passage.id: hit.passage.title for t in trajectory.turns for call in t.calls for hit in call.hits}
    stood_for = {shown.number: shown.passage_id for turn in trajectory.turns for shown in turn.shown}
    for i, turn in enumerate(trajectory.turns):
        passages = _passages(turn, gold, cited, seen)
        advantage = advantages[i]
        cards.append(
            TurnCard(
                number=i + 1,
                turn=turn,
                requests=_requests(turn, asked),
                passages=passages,
                citations=[
                    CitationCard(
                        number=n,
                        passage_id=(passage_id := stood_for.get(n)),
                        title=titles.get(passage_id or "", ""),
                        gold=passage_id in gold,
                    )
                    for n in dict.fromkeys(turn.action.citations)
                ],
                rewards=[bar(name, v, longest) for name, row in by_turn.items() if (v := row[i]) is not None],
                advantage=None if advantage is None else bar("advantage", advantage, strongest),
                gold_found=len({p.id for p in passages if p.gold and not p.repeated}),
            )
        )
        seen.update(shown.passage_id for shown in turn.shown)
    scored = question if question and question.golden_answers else None
    return TrajectoryView(
        trajectory=trajectory,
        step=step,
        question=question,
        wording=wording_of(question, trajectory.view),
        em=exact_match(trajectory.final_answer, scored.golden_answers) if scored else None,
        f1=f1(trajectory.final_answer, scored.golden_answers) if scored else None,
        reward=_number(extra.get("reward")),
        outcomes=[bar(name, value, longest) for name, value in outcomes.items() if value is not None],
        cards=cards,
        supports_missed=[i for i in question.supporting_ids if i not in seen] if question else [],
    )


def wording_of(question: Question | None, view: int) -> str | None:
    """The text that was asked, or None where it is not known."""
    return question.wording(view) if question and 0 <= view <= len(question.paraphrases) else None


def bar(name: str, value: float, longest: float) -> Bar:
    """A bar that is full at `longest`."""
    return Bar(name=name, value=value, share=value / longest if longest else 0.0)


def _requests(turn: Turn, asked: set[tuple[str, str]]) -> list[RequestCard]:
    cards = []
    calls = list(turn.calls)
    for request in turn.action.requests:
        call = next((c for c in calls if (c.tool, c.argument) == (request.tool, request.argument)), None)
        if call is not None:
            calls.remove(call)
        key = (request.tool, " ".join(request.argument.split()).lower())
        cards.append(RequestCard(tool=request.tool, argument=request.argument, repeated=key in asked, call=call))
        asked.add(key)
    cards.extend(RequestCard(tool=c.tool, argument=c.argument, repeated=False, call=c) for c in calls)
    return cards


def _passages(turn: Turn, gold: set[str], cited: set[str], seen: set[str]) -> list[PassageCard]:
    found: dict[str, tuple[Passage, float]] = {}
    for call in turn.calls:
        found.update((hit.passage.id, (hit.passage, hit.score)) for hit in call.hits)
    cards = []
    before = set(seen)
    for shown in turn.shown:
        passage, score = found.get(shown.passage_id, (None, None))
        cards.append(
            PassageCard(
                number=shown.number,
                id=shown.passage_id,
                title=passage.title if passage else "",
                text=passage.text if passage else "",
                gold=shown.passage_id in gold,
                cited=shown.passage_id in cited,
                repeated=shown.passage_id in before,
                truncated=shown.truncated,
                score=score,
            )
        )
        before.add(shown.passage_id)
    return cards


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _numbers(values: Any, length: int) -> list[float | None]:
    """As many numbers as there are turns, None where there is none."""
    given = list(values) if isinstance(values, list | tuple) else []
    return [_number(value) for value in given[:length]] + [None] * (length - len(given))
