"""The two tools of an agent: what they are called with, as JSON schemas and as one line of text.

`search` takes a query. `open` takes a document, named by its id or title, and the number of a window of it. A request
keeps its argument as text: `Ada Lovelace` is the document's first window, `Ada Lovelace | 2` the second. (No title of
Wikipedia holds a `|`.)
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agent.action import ToolRequest
from retrieval.passage import is_text

SEARCH = "search"
OPEN = "open"

TOOL_SCHEMAS: dict[str, dict[str, Any]] = {
    SEARCH: {
        "type": "function",
        "function": {
            "name": SEARCH,
            "description": "Search the corpus. Returns the passages that match best.",
            "parameters": {
                "type": "object",
                "properties": {"query": {"type": "string", "description": "What to look for."}},
                "required": ["query"],
            },
        },
    },
    OPEN: {
        "type": "function",
        "function": {
            "name": OPEN,
            "description": "Read a document of the corpus. A long one comes in windows.",
            "parameters": {
                "type": "object",
                "properties": {
                    "document": {"type": "string", "description": "The title or id of the document."},
                    "window": {"type": "integer", "description": "Which window to read, from 1.", "default": 1},
                },
                "required": ["document"],
            },
        },
    },
}
"""JSON schemas in the form that chat templates take, by name; written without characters that JSON would escape."""

_NUMBERED = re.compile(r"(.*\S)\s*\|\s*([0-9]{1,6})", re.DOTALL)


class ToolCallError(ValueError):
    """A call that no tool takes; the message says why, in words for the policy."""


def open_argument(document: str, window: int = 1) -> str:
    """The argument of `open` as text; `split_open_argument` takes it apart again.

    >>> open_argument("Ada Lovelace", 2)
    'Ada Lovelace | 2'
    """
    document = document.strip()
    return f"{document} | {window}" if window != 1 or _NUMBERED.fullmatch(document) else document


def split_open_argument(argument: str) -> tuple[str, int]:
    """The document and the window that an argument of `open` names.

    >>> split_open_argument("Ada Lovelace | 2"), split_open_argument("Ada Lovelace")
    (('Ada Lovelace', 2), ('Ada Lovelace', 1))
    """
    match = _NUMBERED.fullmatch(argument.strip())
    return (match.group(1), int(match.group(2))) if match else (argument.strip(), 1)


def no_such_tool(name: str, tools: Sequence[str]) -> str:
    """What a policy is told that calls something else than the tools on offer."""
    known = f"the only one is {tools[0]!r}" if len(tools) == 1 else f"the tools are {', '.join(map(repr, tools))}"
    return f"there is no tool {name[:40]!r}; {known}"


def requests_of(name: object, arguments: object, tools: Sequence[str]) -> tuple[ToolRequest, ...]:
    """The requests that a JSON tool call makes: one, or one for each query of a `query_list` (verl's spelling).

    Args:
        name: of the tool; `arguments`: an object of its parameters. Both as parsed, of any type.
        tools: names of the tools on offer.

    Raises:
        ToolCallError: no such tool, a missing or unknown argument, or one of a wrong type.
    """
    if not isinstance(name, str) or name not in tools:
        raise ToolCallError(no_such_tool(str(name), tools))
    if not isinstance(arguments, Mapping):
        raise ToolCallError(f"the arguments of {name!r} must be an object, as in {_example(name)}")
    if name == SEARCH:
        _check_names(name, arguments, {"query", "query_list"})
        if ("query" in arguments) == ("query_list" in arguments):
            raise ToolCallError(f"'search' takes 'query', as in {_example(name)}")
        queries = arguments.get("query_list", [arguments.get("query")])
        if not isinstance(queries, list) or not queries:
            raise ToolCallError("'query_list' of 'search' must be a list of strings with at least one")
        return tuple(ToolRequest(tool=name, argument=_text(name, "query", query)) for query in queries)
    _check_names(name, arguments, {"document", "window"})
    if "document" not in arguments:
        raise ToolCallError(f"'open' needs 'document', as in {_example(name)}")
    window = arguments.get("window", 1)
    if type(window) is not int or not 0 < window < 1_000_000:
        raise ToolCallError("'window' of 'open' must be a whole number from 1")
    return (ToolRequest(tool=name, argument=open_argument(_text(name, "document", arguments["document"]), window)),)


def _check_names(name: str, arguments: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(map(str, arguments)) - known):
        raise ToolCallError(f"{name!r} takes no argument {unknown[0][:40]!r}, as in {_example(name)}")


def _text(name: str, argument: str, value: object) -> str:
    if not isinstance(value, str):
        raise ToolCallError(f"{argument!r} of {name!r} must be a string")
    if not value.strip():
        raise ToolCallError("the query is empty" if name == SEARCH else "the document has no name")
    if not is_text(value):
        raise ToolCallError(f"{argument!r} of {name!r} holds half a surrogate pair, which is no character")
    return value.strip()


def _example(name: str) -> str:
    return '{"query": "..."}' if name == SEARCH else '{"document": "...", "window": 1}'
