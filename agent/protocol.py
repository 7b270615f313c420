"""A protocol: the text conventions between a policy and its environment, as one table.

The table (`agent.protocol_table`) holds the prompt, the tags that a policy writes, the wrapper around what it reads,
and what an invalid action costs. Dialects differ by their table alone (`agent/protocols/`), never by code. There are
two forms of them: a tag for each tool, or (with `tool_call`) JSON calls through the model's chat template. Only
completions are parsed: the prompt's own example can't be mistaken for an answer.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from agent.action import Action, ToolRequest
from agent.answer import answer_action
from agent.chat import chat_template
from agent.neutraliser import neutraliser
from agent.protocol_table import AgentProtocol as AgentProtocol
from agent.protocol_table import Tag as Tag
from agent.statements import with_statements
from agent.tool_calls import parse_tool_calls, split_thought
from agent.tools import SEARCH

if TYPE_CHECKING:  # measuring an index reads the table, and transformers takes a second to import
    from transformers import PreTrainedTokenizerBase


def prompt_text(protocol: AgentProtocol, question_text: str) -> str:
    """The user message that asks a question.

    Raises:
        ValueError: the question is empty.
    """
    question = question_text.strip()
    if not question:
        raise ValueError("the question is empty; a question needs at least one character besides white space")
    if protocol.question_mark and not question.endswith("?"):
        question += "?"
    return protocol.prompt.format(question=question)


def encode_prompt(protocol: AgentProtocol, question_text: str, tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """The prompt's ids: one user message through the chat template where the tokenizer has one, plain text otherwise.

    Encoded once, as one piece. Chat control tokens inside the question are neutralised. Plain text gets the beginning
    token that the tokenizer adds by itself, and no end token. A protocol of JSON calls adds the tools' schemas.

    Raises:
        ValueError: the question is empty, or JSON calls with a tokenizer whose template cannot carry them.
    """
    text = prompt_text(protocol, neutraliser(tokenizer, ()).clean(question_text))
    if protocol.tool_call is not None:
        return chat_template(protocol, tokenizer).prompt(text)
    if getattr(tokenizer, "chat_template", None):
        message = [{"role": "user", "content": text}]
        options = dict(protocol.template_options)
        chat = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False, **options)
        return tuple(tokenizer.encode(chat, add_special_tokens=False))
    plain = tokenizer.encode(text, add_special_tokens=False)
    ids = tokenizer.encode(text, add_special_tokens=True)
    extra_end = tokenizer.eos_token_id is not None and ids[-1:] == [tokenizer.eos_token_id] and ids[-1:] != plain[-1:]
    return tuple(ids[:-1] if extra_end else ids)


@lru_cache(maxsize=64)
def _action_pattern(*tags: Tag) -> re.Pattern[str]:
    pairs = (f"{re.escape(opening)}(.*?){re.escape(closing)}" for opening, closing in tags)
    return re.compile("|".join(pairs), re.DOTALL)


def parse_action(protocol: AgentProtocol, text: str, *, ended: bool = False) -> Action:
    """What the policy did in one completion. The first complete tag wins; what follows it does not count.

    Invalid: no complete call or answer, an empty query, an empty answer (unless the protocol takes it), and a
    completion that writes the observation's own tags, anywhere, because that forges what the environment says.

    Args:
        ended: the policy ended its text itself. Only then can a message without tags be an answer (`bare_answer`).
    """
    thought, _ = split_thought(protocol, text)
    forged = next((tag for tag in protocol.information if tag in text), None)
    if forged is not None:
        return Action(kind="invalid", thought=thought, error=f"{forged} may only be written by the environment")
    if protocol.tool_call is not None:
        return parse_tool_calls(protocol, text, ended=ended)
    tags = {tool or "": tag for tool, tag in protocol.calls} | {"answer": protocol.answer}
    match = _action_pattern(*tags.values()).search(text)
    if match is None:
        pairs = ["".join(tag) for tag in tags.values()]
        error = f"no complete {', '.join(pairs[:-1])} or {pairs[-1]}"
        return Action(kind="invalid", thought=thought, error=error)
    assert match.lastindex is not None
    tool, content = list(tags)[match.lastindex - 1], match.group(match.lastindex)
    action = _tagged_action(protocol, tool, content, thought)
    return with_statements(protocol, action, text[: match.start()])


def _tagged_action(protocol: AgentProtocol, tool: str, content: str, thought: str) -> Action:
    if tool == "answer":
        return answer_action(content, thought=thought, citations=protocol.citations, empty_answer=protocol.empty_answer)
    lines = content.split("\n") if protocol.parallel else [content]
    requests = tuple(ToolRequest(tool=tool, argument=line.strip()) for line in lines if line.strip())
    if not requests:
        error = "the query is empty" if tool == SEARCH else "the document has no name"
        return Action(kind="invalid", thought=thought, error=error)
    return Action(kind="call", thought=thought, requests=requests)
