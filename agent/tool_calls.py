"""Actions of a policy that calls tools in JSON, `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

The thinking block is not searched for calls. Several calls may stand in one turn; a turn without one is the policy's
last message, and holds the answer.
"""

import json
import re
from functools import lru_cache

from agent.action import Action, ToolRequest
from agent.answer import answer_action
from agent.protocol_table import AgentProtocol, Tag
from agent.tools import ToolCallError, requests_of


def split_thought(protocol: AgentProtocol, text: str) -> tuple[str, str]:
    """The thought of a completion, "" where it has no complete one, and the message that follows it.

    Chat templates may open the block at the end of the prompt, so the closing tag alone will do for JSON calls. What
    follows an opening tag that is never closed is neither.
    """
    opening, closing = protocol.think
    start = text.find(opening)
    if protocol.tool_call is not None:
        before, closed, after = text.partition(closing)
        if closed:
            return before[before.find(opening) + len(opening) if opening in before else 0 :].strip(), after
        return "", text if start < 0 else text[:start]
    end = text.find(closing, start)
    return (text[start + len(opening) : end].strip() if start >= 0 and end >= 0 else ""), text


def parse_tool_calls(protocol: AgentProtocol, text: str, *, ended: bool) -> Action:
    """The action of one completion; see `agent.protocol.parse_action`, which has looked for forged tags.

    An answer before the first call is the action; calls before the first answer are the action, and an answer after
    them does not count. One call that cannot be read makes the action invalid, so that none is carried out in part.
    """
    thought, message = split_thought(protocol, text)
    assert protocol.tool_call is not None
    requests: list[ToolRequest] = []
    for match in _pattern(protocol.tool_call, protocol.answer).finditer(message):
        if match.group(1) is None and requests:
            break
        if match.group(1) is None:
            return _answer(protocol, match.group(2), thought)
        try:
            requests.extend(_requests(match.group(1), protocol.tools))
        except ToolCallError as fault:
            return Action(kind="invalid", thought=thought, error=str(fault))
        if not protocol.parallel:
            break
    if len(requests) > 1 and not protocol.parallel:
        return Action(kind="invalid", thought=thought, error="one query a turn is allowed")
    if requests:
        return Action(kind="call", thought=thought, requests=tuple(requests))
    opened = next((tag for tag in (protocol.tool_call, protocol.answer) if tag[0] in message), None)
    if opened is None and ended and protocol.bare_answer:
        return _answer(protocol, message, thought)
    missing = (protocol.tool_call, protocol.answer) if opened is None else (opened,)
    error = f"no complete {' or '.join(''.join(tag) for tag in missing)}"
    return Action(kind="invalid", thought=thought, error=error)


def _answer(protocol: AgentProtocol, content: str, thought: str) -> Action:
    return answer_action(content, thought=thought, citations=protocol.citations, empty_answer=protocol.empty_answer)


def _requests(content: str, tools: tuple[str, ...]) -> tuple[ToolRequest, ...]:
    try:
        call = json.loads(content)
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise ToolCallError(f"the tool call is no JSON{where}") from None
    if not isinstance(call, dict) or "name" not in call:
        raise ToolCallError('the tool call must be an object {"name": ..., "arguments": {...}}')
    # Llama's templates ask for "parameters".
    return requests_of(call["name"], call.get("arguments", call.get("parameters")), tools)


@lru_cache(maxsize=64)
def _pattern(call: Tag, answer: Tag) -> re.Pattern[str]:
    pairs = (f"{re.escape(opening)}(.*?){re.escape(closing)}" for opening, closing in (call, answer))
    return re.compile("|".join(pairs), re.DOTALL)
