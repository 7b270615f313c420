"""What a model may answer: a reason and a label, or a reason and a score; and how strictly that is read.

Anything else is a verdict of NaN that says why. Nothing is repaired: a judge that guesses what a model meant would pay
the policy for it.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rewards.judge.judge import Verdict

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL)
_THOUGHT_ALOUD = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_SHOWN_CHARS = 120


def failed(reason: str) -> Verdict:
    """The verdict of a judge that has none."""
    return Verdict(score=math.nan, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScale:
    """Labels with their scores, or the bounds of a score, both inside [0, 1].

    Raises:
        ValueError: neither or both, or a score outside [0, 1].
    """

    labels: Mapping[str, float] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if bool(self.labels) == (self.bounds is not None):
            raise ValueError("a scale has either labels or bounds of a score")
        values = list(self.labels.values()) or list(self.bounds or ())
        if not all(0.0 <= value <= 1.0 for value in values):
            raise ValueError(f"scores lie in [0, 1], got {values}")

    def schema(self) -> dict[str, Any]:
        """The JSON schema of an answer; every field is required, no other is allowed."""
        said: dict[str, Any]
        if self.bounds is None:
            name, said = "label", {"type": "string", "enum": list(self.labels)}
        else:
            name, said = "score", {"type": "number", "minimum": self.bounds[0], "maximum": self.bounds[1]}
        return {
            "type": "object",
            "properties": {"reason": {"type": "string"}, name: said},
            "required": ["reason", name],
            "additionalProperties": False,
        }

    def read(self, content: str) -> Verdict:
        """The verdict that a model's text states; NaN with the reason where it does not follow the schema.

        A thought aloud in `<think>` before the answer and one code fence around it are no part of it.
        """
        text = _THOUGHT_ALOUD.sub("", content, count=1).strip() if content.lstrip().startswith("<think>") else content
        fenced = _FENCED.fullmatch(text.strip())
        try:
            said = json.loads(fenced.group(1) if fenced else text, object_pairs_hook=_once, parse_constant=_refuse)
            return self._checked(said)
        except (ValueError, RecursionError) as error:
            return failed(f"the answer is not JSON ({error}): {content[:_SHOWN_CHARS]!r}")

    def _checked(self, said: Any) -> Verdict:
        name = "label" if self.bounds is None else "score"
        if not isinstance(said, dict) or set(said) != {"reason", name}:
            return failed(f"the answer is not an object of reason and {name}: {str(said)[:_SHOWN_CHARS]!r}")
        reason, value = said["reason"], said[name]
        if not isinstance(reason, str):
            return failed(f"the reason is no text: {str(reason)[:_SHOWN_CHARS]!r}")
        if self.bounds is None:
            if not isinstance(value, str) or value not in self.labels:
                return failed(f"the label is {str(value)[:_SHOWN_CHARS]!r}; allowed are {', '.join(self.labels)}")
            return Verdict(score=self.labels[value], label=value, reason=reason)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return failed(f"the score is no number: {str(value)[:_SHOWN_CHARS]!r}")
        low, high = self.bounds
        if not low <= value <= high:
            return failed(f"the score {str(value)[:_SHOWN_CHARS]} is outside [{low:g}, {high:g}]")
        return Verdict(score=float(value), reason=reason)

    def restored(self, score: Any, label: Any, reason: Any) -> Verdict | None:
        """A verdict as it was kept; None unless this scale could have given it."""
        answer = {
            "reason": reason,
            "label" if self.bounds is None else "score": label if self.bounds is None else score,
        }
        verdict = self._checked(answer)
        return verdict if verdict.score == score else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two scores nobody knows which one is meant."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is given twice")
    return made


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
