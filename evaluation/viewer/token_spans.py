"""A trajectory's tokens as coloured stretches: by mask, by logprob, or by the advantage of their turn.

A branch holds the turns of its parent up to its fork. They were sampled once and are learnt from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.trajectory import Trajectory

COLOURINGS = ("mask", "logprob", "advantage")
_LOGPROB_EDGES = (-0.01, -0.1, -0.5, -1.0, -2.0, -4.0)
"""A token's class is the number of these that its logprob lies below: 0 is sure, 6 is a surprise."""
_ADVANTAGE_CLASSES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Neighbouring tokens drawn alike. `classes` names the style, `told` what a pointer over it shows."""

    text: str
    classes: str
    told: str
    part: str


def token_spans(
    trajectory: Trajectory, pieces: Sequence[str], colouring: str, advantages: Sequence[float | None] | None = None
) -> list[Span]:
    """Spans of the whole trajectory, prompt first; `pieces` is the text of each token, `[num_tokens]`."""
    strongest = max((abs(a) for a in advantages or () if a is not None), default=0.0)
    spans: list[Span] = []
    at = len(trajectory.prompt_ids)
    spans.append(Span(text="".join(pieces[:at]), classes="masked", told="prompt: masked", part="prompt"))
    for i, turn in enumerate(trajectory.turns):
        part = f"turn {i + 1}"
        own = pieces[at : at + len(turn.action_ids)]
        at += len(turn.action_ids)
        if colouring == "logprob":
            for text, logprob, version in zip(own, turn.action_logprobs, turn.action_versions, strict=True):
                level = sum(logprob < edge for edge in _LOGPROB_EDGES)
                told = f"logprob {logprob:.3f}, policy version {version}"
                spans.append(Span(text=text, classes=f"lp{level}", told=told, part=part))
        elif colouring == "advantage":
            value = advantages[i] if advantages and i < len(advantages) else None
            told = f"turn {i + 1}: " + ("no advantage stored" if value is None else f"advantage {value:+.3f}")
            spans.append(Span(text="".join(own), classes=_advantage_class(value, strongest), told=told, part=part))
        else:
            is_shared = i < (trajectory.fork_turn or 0)
            told = f"turn {i + 1}: {len(own)} sampled tokens" + (", the parent's: masked here" if is_shared else "")
            spans.append(Span(text="".join(own), classes="masked" if is_shared else "sampled", told=told, part=part))
        seen = pieces[at : at + len(turn.observation_ids)]
        at += len(turn.observation_ids)
        if seen:
            told = f"observation of {len(seen)} tokens: masked"
            spans.append(Span(text="".join(seen), classes="masked", told=told, part=f"observation {i + 1}"))
    return [span for span in spans if span.text]


def _advantage_class(value: float | None, strongest: float) -> str:
    if value is None:
        return "sampled"
    if not strongest or abs(value) / strongest < 0.02:
        return "adv0"
    level = min(_ADVANTAGE_CLASSES, 1 + int(abs(value) / strongest * (_ADVANTAGE_CLASSES - 0.001)))
    return f"adv{'p' if value > 0 else 'n'}{level}"
