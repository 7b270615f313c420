"""YAML files as checked sections: reading, dotted overrides, and every problem in one error, by its dotted name.

What the fields are is `train.config`'s business; unknown ones are refused with the nearest known name.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from retrieval.setting_words import in_words


class Section(BaseModel):
    """A part of the config: frozen, and closed to fields that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SectionKind = TypeVar("SectionKind", bound=Section)


CHOSEN_BY_NAME = frozenset({"engine", "runtime", "unit"})
"""Fields that hold a kind's name, or a section with `kind` and the settings of that kind."""


class ConfigError(ValueError):
    """A config that cannot be run; the message names the field, what was given and what is allowed."""


def read_mapping(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a YAML file with dotted overrides applied, not yet checked.

    Raises:
        ConfigError: no such file, not YAML, a field that stands twice, or an override that cannot be applied.
    """
    if not path.is_file():
        raise ConfigError(f"no config at {path}: give a YAML file, for example one from configs/")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if data is None and not overrides:
        raise ConfigError(f"{path} is empty; a config is a mapping of fields")
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}; a config is a mapping of fields")
    for override in overrides:
        apply_override(data, override)
    return data


def near_or_all(name: str, known: Sequence[str]) -> str:
    """The hint for a name that is not known: the nearest of those that are, else all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."


def check_fields(kind: type[SectionKind], data: dict[str, Any], source: str) -> SectionKind:
    """Validate a mapping; every problem is listed in one ConfigError with its dotted field name."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = error.errors()
        lines = [_explain(kind, problem) for problem in problems if not _only_follows(problem, problems)]
        raise ConfigError("\n  ".join([f"{source}:", *lines])) from error


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one dotted field of a nested mapping, `a.b=value`; missing sections are made. `rewards.NAME=null` takes the
    reward out.

    Raises:
        ConfigError: no `=`, a value that is not YAML, or a field on the way that holds a value instead of a section.
    """
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form field.subfield=value")
    node = data
    *parents, last = key.split(".")
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if isinstance(child, str) and parent in CHOSEN_BY_NAME:
            child = node[parent] = {"kind": child}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {parent!r} holds a value, not a section")
        node = child
    node[last] = _scalar(value, override)
    if parents == ["rewards"] and node[last] is None:  # a reward without settings would be `{}`
        del node[last]


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a field stands once; the plain loader silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field {key!r} stands twice; keep one of them", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _scalar(text: str, override: str) -> Any:
    """A YAML value; `1e-4`, which YAML 1.1 reads as a string, becomes the float that was meant."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value: {error}") from error
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _only_follows(problem: Any, problems: Sequence[Any]) -> bool:
    """True if a list counts as too short only because something is wrong inside its entries."""
    place = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in problems
    )


def _explain(kind: type[Section], problem: Any) -> str:
    location = ".".join(_written(kind, problem["loc"])) or "config"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(kind, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}"
        return f"{location}: unknown field; {hint}"
    if problem["type"] in ("model_type", "model_attributes_type"):
        known = _fields_at(kind, problem["loc"])
        return f"{location}: must be a section with fields ({', '.join(known)}), not {problem['input']!r}"
    return f"{location}: {in_words(problem)}"


def _written(kind: type[Section], location: Sequence[int | str]) -> list[str]:
    """The parts of a place that stand in the file: not the kind by which a union of sections is told apart."""
    written = []
    for i, part in enumerate(location):
        unions = [a for a in _flat(_annotation_at(kind, location[:i])) if _kind_of_class(a) is not None]
        if not (len(unions) > 1 and part in [_kind_of_class(a) for a in unions]):
            written.append(str(part))
    return written


def _kind_of_class(annotation: Any) -> str | None:
    return _kind_of(annotation) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _annotation_at(kind: type[Section], location: Sequence[int | str]) -> Any:
    """What stands at a place; a name in a mapping or a number in a list is passed through."""
    annotation: Any = kind
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            annotation = None if field is None else _without_none(field.annotation)
        else:
            kinds = [a for a in _flat(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
            annotation = next((a for a in kinds if _kind_of(a) == part), kinds[0] if kinds else None)
    return annotation


def _fields_at(kind: type[Section], location: Sequence[int | str]) -> list[str]:
    """Names of the fields of the section at a place, or of the kinds that it may have."""
    annotation = _annotation_at(kind, location)
    kinds = [a for a in _flat(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
    return list(kinds[0].model_fields) if len(kinds) == 1 else [str(_kind_of(kind)) for kind in kinds]


def _flat(annotation: Any) -> list[Any]:
    """The classes that stand anywhere inside an annotation."""
    inside = [found for part in get_args(annotation) for found in _flat(part)]
    return inside or [annotation]


def _kind_of(section: type[BaseModel]) -> str | None:
    """The name by which a union of sections is told apart; None where the section has none."""
    field = section.model_fields.get("kind")
    return None if field is None else str(field.default)


def _without_none(annotation: Any) -> Any:
    """What an optional field holds where it is set."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(annotation) and len(kinds) == 1 else annotation
