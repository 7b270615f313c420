"""Published settings by name: the protocol, limits and decoding that a system's figures were taken with.

`search_r1` is the evaluation of Search-R1 (github.com/PeterGriffinJin/Search-R1, `infer.py` and
`llm_agent/generation.py`; arXiv:2503.09516): its prompt and tags byte for byte, 3 passages a search, 4 actions that may
search and one more whose search is not carried out, 500 tokens an action and 500 an observation, greedy, exact match. A
golden transcript pins it.
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from envs.search_env import EpisodeLimits
from evaluation.job_settings import EvaluationJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a published evaluation fixes, and in words where Waymark differs beyond what the protocol says of itself."""

    protocol: str
    limits: EpisodeLimits
    temperature: float = 0.0
    samples: int = 1
    deviations: tuple[str, ...] = ()


PRESETS: Mapping[str, Preset] = {
    "search_r1": Preset(
        protocol="search_r1",
        limits=EpisodeLimits(
            max_turns=5,
            top_k=3,
            max_new_tokens_per_turn=500,
            max_observation_tokens=500,
            max_trajectory_tokens=4596,
        ),
        deviations=(
            "an episode that outgrows its tokens ends as token_limit; Search-R1 forgets the beginning beyond "
            "4096 tokens and goes on",
            "an observation beyond its tokens loses its last passages and keeps its tags; Search-R1 cuts it",
        ),
    ),
}
"""By name."""


def with_preset(job: EvaluationJob, name: str, *, typed: Collection[str] = ()) -> EvaluationJob:
    """The job under a preset's protocol, limits and decoding.

    What stands at its usual value was not asked for, unless its name is among `typed`.

    Raises:
        ValueError: no such preset, or the job asks for something else than it fixes.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset is named {name!r}; there are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    defaults: Mapping[str, Any] = {field.name: field.default for field in dataclasses.fields(EvaluationJob)}
    for field in ("protocol", "temperature", "samples"):
        fixed = getattr(preset, field)
        _check(name, field, getattr(job, field), fixed, fixed if field in typed else defaults[field])
    limits, usual = preset.limits.model_dump(), EpisodeLimits().model_dump()
    for field, value in job.limits.model_dump().items():
        _check(name, field, value, limits[field], limits[field] if field in typed else usual[field])
    return dataclasses.replace(
        job,
        preset=name,
        protocol=preset.protocol,
        limits=preset.limits,
        temperature=preset.temperature,
        samples=preset.samples,
    )


def _check(name: str, field: str, given: Any, fixed: Any, usual: Any) -> None:
    if given not in (fixed, usual):
        raise ValueError(
            f"the preset {name} fixes {field} at {fixed!r}, and {given!r} was given: leave one of the two out, for "
            "figures under another setting are not that system's"
        )
