"""The interface of a judge: questions of a few kinds in, verdicts out.

| criterion | fields | score |
| --- | --- | --- |
| `answer` | question, answer, golds | 1 the answer says what a gold answer says, else 0 |
| `supports` | claim, passages | 1 the passages fully support the claim, else 0 |
| `relevance` | question, query, passages | how relevant the passages are to the query, in [0, 1] |
| `usefulness` | question, query, passages, golds | 1 the passages answer what the query asks for, else 0 |
| `goal_met` | goal, passages, golds | 1 the passages meet the goal, else 0 |
| `nugget` | text, nugget | support 1, partial_support 0.5, not_support 0 |
| `thought` | question, thought, context | in [0, 1]: a right, relevant and faithful step |
| `query` | question, thought, query, context | in [0, 1]: key entities, clear, concise |

`golds`, `passages` and `context` are sequences of texts, the other fields single texts. Judges see gold answers, so
they serve training alone: evaluation must not import this package.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

CRITERIA: dict[str, frozenset[str]] = {
    "answer": frozenset({"question", "answer", "golds"}),
    "supports": frozenset({"claim", "passages"}),
    "relevance": frozenset({"question", "query", "passages"}),
    "usefulness": frozenset({"question", "query", "passages", "golds"}),
    "goal_met": frozenset({"goal", "passages", "golds"}),
    "nugget": frozenset({"text", "nugget"}),
    "thought": frozenset({"question", "thought", "context"}),
    "query": frozenset({"question", "thought", "query", "context"}),
}
"""The fields of each criterion."""

MANY = frozenset({"golds", "passages", "context"})
"""Fields that hold a sequence of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRequest:
    """One question to a judge.

    Raises:
        ValueError: an unknown criterion, or other fields than it has.
    """

    criterion: str
    fields: Mapping[str, str | Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise ValueError(f"judge criterion {self.criterion!r} is unknown; there are {', '.join(CRITERIA)}")
        wanted = CRITERIA[self.criterion]
        if set(self.fields) != wanted:
            raise ValueError(
                f"judge criterion {self.criterion!r} has fields {sorted(wanted)}, got {sorted(self.fields)}"
            )
        for name, value in self.fields.items():
            if isinstance(value, str) == (name in MANY):
                kind = "a sequence of texts" if name in MANY else "one text"
                raise ValueError(f"judge criterion {self.criterion!r}: {name} must be {kind}, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge said: `score` in [0, 1], NaN where it failed or was not valid; then `reason` says why."""

    score: float
    label: str | None = None
    reason: str | None = None


class Judge(Protocol):
    """Answers requests, many at once. Never raises for a single bad answer: that verdict is NaN."""

    name: str

    @property
    def asked(self) -> int:
        """Requests that the judge has had so far."""
        ...

    @property
    def failed(self) -> int:
        """Those of them whose verdict was NaN."""
        ...

    @property
    def cached(self) -> int:
        """Those of them that were answered from what had been judged before."""
        ...

    @property
    def cost(self) -> float:
        """What the others have cost, in the money of the prices that the judge was given; 0 without prices."""
        ...

    def ask(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """One verdict for each request, in order."""
        ...


@runtime_checkable
class ProbedJudge(Protocol):
    """A judge that may be out of reach, and can tell."""

    name: str

    def probe(self) -> str | None:
        """Ask one question, past any memory of verdicts: None if it was answered, else what went wrong."""
        ...
