"""Protocols by name: what a config or a command line calls them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from agent.extension import load_object
from agent.protocol import AgentProtocol
from agent.protocols.hermes import HERMES, HERMES_OPEN
from agent.protocols.search_r1 import SEARCH_R1, SEARCH_R1_OPEN
from agent.protocols.waymark import WAYMARK, WAYMARK_OPEN, WAYMARK_STATING

PROTOCOLS: dict[str, AgentProtocol] = {
    protocol.name: protocol
    for protocol in (SEARCH_R1, SEARCH_R1_OPEN, WAYMARK, WAYMARK_OPEN, WAYMARK_STATING, HERMES, HERMES_OPEN)
}


def load_protocol(name: str, **overrides: Any) -> AgentProtocol:
    """A protocol by name (a key of `PROTOCOLS`) or `module:object`, with fields replaced.

    The object may be an `AgentProtocol` or a function without arguments that returns one.

    Raises:
        ValueError: no such protocol, no such field, or a table that contradicts itself.
    """
    found: Any = load_object(name, kind="protocol", builtins=PROTOCOLS)
    if callable(found) and not isinstance(found, AgentProtocol):
        found = found()
    if not isinstance(found, AgentProtocol):
        raise ValueError(f"protocol {name!r} is a {type(found).__name__}; it must be an agent.protocol.AgentProtocol")
    fields = [field.name for field in dataclasses.fields(AgentProtocol)]
    unknown = sorted(set(overrides) - set(fields))
    if unknown:
        raise ValueError(f"a protocol has no field {', '.join(unknown)}; its fields: {', '.join(fields)}")
    pairs = {name: _frozen(value) for name, value in overrides.items()}
    return dataclasses.replace(found, **pairs) if pairs else found


def _frozen(value: Any) -> Any:
    """Lists of a config as tuples, mappings as tuples of pairs."""
    if isinstance(value, Mapping):
        return tuple((str(key), _frozen(item)) for key, item in value.items())
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
