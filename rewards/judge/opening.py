"""Judges by config: which of them is meant, checked and opened with one call."""

import difflib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Protocol

from pydantic import Field, TypeAdapter, ValidationError

from rewards.judge.judge import Judge
from rewards.judge.settings import EndpointSettings, RulesSettings

JudgeSettings = Annotated[RulesSettings | EndpointSettings, Field(discriminator="kind")]
JudgeSpec = str | Mapping[str, Any] | None
_SETTINGS: TypeAdapter[RulesSettings | EndpointSettings] = TypeAdapter(JudgeSettings)
_FORMS = "'rules', {kind: rules, ...} or {kind: endpoint, url: ..., model: ...}"


class ClosableJudge(Judge, Protocol):
    """A judge that this package opened, to be closed by whoever asked for it."""

    def close(self) -> None:
        """Give files, connections and threads back."""
        ...


def read_judge_settings(spec: str | Mapping[str, Any]) -> RulesSettings | EndpointSettings:
    """The settings that a spec states, checked; nothing is opened.

    Raises:
        ValueError: it states none; the message names each field, what was given and what is allowed.
    """
    if spec == "endpoint":
        raise ValueError("judge: an endpoint needs its url and model: {kind: endpoint, url: ..., model: ...}")
    if isinstance(spec, str):
        spec = {"kind": spec}
    if not isinstance(spec, Mapping):
        raise ValueError(f"judge must be {_FORMS}, got {type(spec).__name__}")
    if spec.get("kind") not in ("rules", "endpoint"):
        raise ValueError(f"judge must be {_FORMS}; kind is {spec.get('kind')!r}")
    try:
        return _SETTINGS.validate_python(dict(spec))
    except ValidationError as error:
        # Without the input: a key written into the wrong field would be shown.
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'][1:]) or spec['kind']}: {_in_words(problem, spec['kind'])}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise ValueError(f"judge of kind {spec['kind']}: {problems}") from None


def _in_words(problem: Any, kind: str) -> str:
    """What is wrong with a setting, and what it may be."""
    known = list((EndpointSettings if kind == "endpoint" else RulesSettings).model_fields)
    place = str(problem["loc"][-1])
    if problem["type"] == "missing":
        return f"is missing; give it ({_FORMS})"
    if problem["type"] == "extra_forbidden":
        if kind == "endpoint" and "key" in place:
            return "there is no such setting: a key stands in an environment variable, whose name api_key_env gives"
        near = difflib.get_close_matches(place, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(known)}"
        return f"there is no such setting; {hint}"
    if problem["type"] == "string_pattern_mismatch" and place == "url":
        return "must begin with http:// or https:// and name a host, for example http://127.0.0.1:8000"
    return str(problem["msg"]).removeprefix("Value error, ").replace("Input should", "it should")


def open_judge(spec: JudgeSpec) -> ClosableJudge | None:
    """The judge that a config states; None without one.

    >>> open_judge("rules").name
    'rules'

    Raises:
        ValueError: the spec is not valid, a package or the API key is missing, or the cache cannot be opened.
    """
    if spec is None:
        return None
    settings = read_judge_settings(spec)
    if isinstance(settings, EndpointSettings):
        if find_spec("httpx") is None:
            raise ValueError("judge: an endpoint needs the package httpx: pip install 'waymark[serve]'")
        from rewards.judge.endpoint import EndpointJudge

        return EndpointJudge(settings)
    from rewards.judge.rules import RulesJudge

    return RulesJudge(settings)
