"""What a policy has read: the passages that it was shown, turn by turn, and which hops they answer.

A passage is read as it came back from the search (noise may have changed it), else as the corpus has it. One that the
token budget shortened counts whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.trajectory import Trajectory, Turn
from envs.question import Hop, Question
from retrieval.passage import Passage
from rewards.wording import content_words, key_words, mentions


def read_passages(turn: Turn, passage: Callable[[str], Passage]) -> list[Passage]:
    """The passages shown after a turn's action, in order.

    Raises:
        ValueError: one of them was neither retrieved at this turn nor is known to `passage`.
    """
    found = {hit.passage.id: hit.passage for call in turn.calls for hit in call.hits}
    return [found[s.passage_id] if s.passage_id in found else _known(s.passage_id, passage) for s in turn.shown]


def read_texts(turns: Sequence[Turn], passage: Callable[[str], Passage]) -> list[str]:
    """Title and text of every passage that these turns showed, each once, in the order of its first showing."""
    first: dict[str, str] = {}
    for turn in turns:
        for found in read_passages(turn, passage):
            first.setdefault(found.id, found.contents)
    return list(first.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The words of what a turn was written in view of: the question, and every passage shown before it."""

    key_words: frozenset[str]
    content_words: frozenset[str]


def contexts_of(trajectory: Trajectory, question: Question, passage: Callable[[str], Passage]) -> list[Context]:
    """The context of each turn, `[num_turns]`; the question is the wording that was asked."""
    asked = question.wording(trajectory.view)
    keys, contents = set(key_words(asked)), set(content_words(asked))
    seen: set[str] = set()
    contexts: list[Context] = []
    for turn in trajectory.turns:
        contexts.append(Context(key_words=frozenset(keys), content_words=frozenset(contents)))
        for found in read_passages(turn, passage):
            if found.id not in seen:
                seen.add(found.id)
                keys |= key_words(found.contents)
                contents |= content_words(found.contents)
    return contexts


def is_found(hop: Hop, passages: Sequence[Passage]) -> bool:
    """True if a hop's support is among the passages; without an annotated support, if one of them says its answer."""
    if hop.supporting_id is not None:
        return any(passage.id == hop.supporting_id for passage in passages)
    return any(mentions(passage.contents, hop.answers) for passage in passages)


def answers_of(question: Question) -> tuple[str, ...]:
    """The gold answers of the question and of its hops, each once."""
    return tuple(dict.fromkeys((*question.golden_answers, *(a for hop in question.hops for a in hop.answers))))


def observed_turns(trajectory: Trajectory) -> list[int]:
    """The turns, counted from 0, that follow an observation: the turn before them had calls carried out."""
    return [t for t in range(1, trajectory.num_turns) if trajectory.turns[t - 1].calls]


def _known(passage_id: str, passage: Callable[[str], Passage]) -> Passage:
    try:
        return passage(passage_id)
    except KeyError:
        raise ValueError(
            f"passage {passage_id!r} was shown, but neither retrieved at that turn nor known to the reward's corpus; "
            "build the reward's context from the index that the episodes search"
        ) from None
