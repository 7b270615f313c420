"""What is wrong with a setting, in words of what was given: pydantic speaks of inputs and classes."""

import difflib
from collections.abc import Mapping
from typing import Any

_NO_NUMBER = "is not a number"
_NO_WHOLE_NUMBER = "is not a whole number"
_WORDS: Mapping[str, str] = {
    "float_parsing": _NO_NUMBER,
    "float_type": _NO_NUMBER,
    "finite_number": "is not a finite number",
    "int_parsing": _NO_WHOLE_NUMBER,
    "int_parsing_size": "is too large a number",
    "int_type": _NO_WHOLE_NUMBER,
    "int_from_float": _NO_WHOLE_NUMBER,
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "string_type": "is no text; put it in quotes",
    "path_type": "is no path",
    "list_type": "is no list",
    "tuple_type": "is no list",
    "dict_type": "is no mapping of names to values",
    "mapping_type": "is no mapping of names to values",
    "model_type": "is one value, where there are settings of their own; give them by NAME.SETTING",
    "model_attributes_type": "is one value, where there are settings of their own; give them by NAME.SETTING",
    "greater_than": "is too small; give more than {gt}",
    "greater_than_equal": "is too small; give at least {ge}",
    "less_than": "is too large; give less than {lt}",
    "less_than_equal": "is too large; give at most {le}",
    "literal_error": "is not allowed; give {expected}",
    "enum": "is not allowed; give {expected}",
}
"""By the type of a pydantic error (https://docs.pydantic.dev/latest/errors/validation_errors/); the rest is told as
pydantic tells it.
"""


_SECRET = ("token", "api_key", "password")


def _shown(problem: Mapping[str, Any]) -> str:
    """What was given, without what nobody should read in a log."""
    given = problem["input"]
    if any(word in str(part) for part in problem.get("loc", ()) for word in _SECRET):
        return "what was given"
    if isinstance(given, Mapping):
        return "{" + ", ".join(map(str, given)) + "}"
    return f"{given!r:.200}"


def in_words(problem: Mapping[str, Any]) -> str:
    """One entry of `ValidationError.errors()` without its place: `'abc' is not a number`.

    >>> in_words({"type": "greater_than_equal", "input": -1, "ctx": {"ge": 0}, "msg": "", "loc": ("k1",)})
    '-1 is too small; give at least 0'
    """
    kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
    if kind == "value_error":  # a rule of ours, which says what was given
        return str(message)
    if kind == "missing":
        return "is missing; give it"
    if kind == "extra_forbidden":
        return "there is no such setting"
    if kind == "union_tag_invalid" and "ctx" in problem:
        tags = [tag.strip("' ") for tag in problem["ctx"]["expected_tags"].split(",")]
        tag = str(problem["ctx"]["tag"])
        near = difflib.get_close_matches(tag, tags, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"there is no kind {tag!r}; {hint}There are {', '.join(tags)}"
    if kind == "union_tag_not_found":
        return f"{problem['ctx']['discriminator']} is missing: it says which settings these are"
    given = _shown(problem)
    if kind in _WORDS:
        limits = {
            name: int(limit) if isinstance(limit, float) and limit.is_integer() else limit
            for name, limit in problem.get("ctx", {}).items()
        }
        return f"{given} {_WORDS[kind].format(**limits)}"
    return f"{message.replace('Input should', 'it should')} (given: {given})"
