"""A protocol: the text conventions between a policy and its environment, as one table.

It holds the prompt, the tags that a policy writes, the wrapper around what it reads, and what an invalid action costs.
Dialects differ by their table alone (`agent/protocols/`), never by code. There are two forms of them: a tag for each
tool, or (with `tool_call`) JSON calls through the model's chat template. Only completions are parsed: the prompt's
own example can't be mistaken for an answer.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal

from agent.action import Action, ToolRequest
from agent.answer import answer_action
from agent.chat import chat_template
from agent.neutraliser import neutraliser
from agent.tool_calls import parse_tool_calls, split_thought
from agent.tools import OPEN, SEARCH

if TYPE_CHECKING:  # measuring an index reads this table, and transformers takes a second to import
    from transformers import PreTrainedTokenizerBase

Tag = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentProtocol:
    """The table. Tags are pairs (open, close).

    prompt: template with `{question}`, sent as one user message. `question_mark` appends "?" to a question without one.
    passage: template of one passage with `{number}`, `{title}`, `{text}`; `observation` wraps all of them at
        `{passages}`; `nothing_found` stands there when no passage came back. `one_line` folds white space in passages
        to single spaces, so that a text cannot fake the line of another passage.
    numbers: "turn" counts passages from 1 in every observation; "trajectory" keeps a passage's number for the episode.
    tools: what the policy may call: "search", and "open", which reads a document by id or title in windows. `window`
        stands before a window; `no_document`, `no_window` and `opens_used_up` answer an `open` that shows nothing.
    parallel: one turn may ask for several searches, or documents: each line between the tags is one.
    tool_call: the tag of a JSON tool call. With it the tools' schemas, the results and the turns go through the model's
        chat template; `parallel` then allows several calls in a turn, and without it sampling stops after the first.
        `search` and `open` tags are not used. A turn without a call is the last: its `answer` tag, or the whole
        message with `bare_answer`. `repeated` stands for a passage that an earlier result of the turn has shown.
    template_options: further variables of the chat template, such as `{"enable_thinking": False}`, as pairs.
    citations: marks such as `[2]` in an answer are citations. `empty_answer` tells whether an empty answer is valid.
    on_invalid: "correct" answers an invalid action with `correction`, "end" finishes the episode as `malformed`.
    reserved: further strings that documents may not contain; the tags themselves are always reserved.
    deviations: in words, where the environment departs from the system whose conventions these are. They stand beside
        every figure, and are no part of the conventions themselves.
    """

    name: str
    prompt: str
    question_mark: bool = True
    think: Tag = ("<think>", "</think>")
    search: Tag = ("<search>", "</search>")
    open: Tag = ("<open>", "</open>")
    answer: Tag = ("<answer>", "</answer>")
    information: Tag = ("<information>", "</information>")
    passage: str
    observation: str
    nothing_found: str = ""
    tools: tuple[str, ...] = (SEARCH,)
    window: str = "window {window} of {windows}\n"
    no_document: str = "no document {document}\n"
    no_window: str = "no window {window} of {document}, it has {windows}\n"
    opens_used_up: str = "no more documents may be opened\n"
    parallel: bool = False
    tool_call: Tag | None = None
    bare_answer: bool = False
    repeated: str = ""
    template_options: tuple[tuple[str, Any], ...] = ()
    one_line: bool = False
    numbers: Literal["turn", "trajectory"] = "turn"
    citations: bool = False
    empty_answer: bool = False
    on_invalid: Literal["correct", "end"] = "correct"
    correction: str
    reserved: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, needed, allowed in (
            ("prompt", {"question"}, {"question"}),
            ("passage", {"text"}, {"number", "title", "text"}),
            ("observation", {"passages"}, {"passages"}),
            ("window", set(), {"window", "windows"}),
            ("no_document", set(), {"document"}),
            ("no_window", set(), {"window", "windows", "document"}),
            ("repeated", set(), {"number", "title"}),
        ):
            names = {name for _, name, _, _ in Formatter().parse(getattr(self, field)) if name is not None}
            if not needed <= names <= allowed:
                raise ValueError(
                    f"protocol {self.name!r}: {field} must contain {_braced(needed) or 'nothing'} and may contain "
                    f"{_braced(allowed)}; it has {_braced(names) or 'none'} (write a literal brace as {{{{ or }}}})"
                )
        for field in ("think", "search", "open", "answer", "information", "tool_call"):
            tag = getattr(self, field)
            if tag is None and field == "tool_call":
                continue
            if len(tag) != 2 or not all(isinstance(part, str) and part for part in tag) or tag[0] == tag[1]:
                raise ValueError(f"protocol {self.name!r}: {field} must be an (open, close) pair of tags, got {tag!r}")
        before, after = self.wrapper
        if self.information[0] not in before or self.information[1] not in after:
            raise ValueError(
                f"protocol {self.name!r}: observation must hold {{passages}} between {self.information[0]} and "
                f"{self.information[1]}, got {self.observation!r}"
            )
        for field, options in (("numbers", ("turn", "trajectory")), ("on_invalid", ("correct", "end"))):
            if getattr(self, field) not in options:
                raise ValueError(
                    f"protocol {self.name!r}: {field} is {getattr(self, field)!r}, allowed: {', '.join(options)}"
                )
        if sorted(self.tools) not in ([SEARCH], sorted([SEARCH, OPEN])):
            raise ValueError(
                f"protocol {self.name!r}: tools is {self.tools!r}; allowed: ({SEARCH!r},) and ({SEARCH!r}, {OPEN!r})"
            )

    @property
    def calls(self) -> tuple[tuple[str | None, Tag], ...]:
        """The tags that call tools, each with its tool; a JSON call names the tool itself, so that is None there."""
        if self.tool_call is not None:
            return ((None, self.tool_call),)
        return tuple((tool, self.search if tool == SEARCH else self.open) for tool in self.tools)

    @property
    def offers_open(self) -> bool:
        """True if documents can be opened, so that the environment needs something that opens them."""
        return OPEN in self.tools

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a completion; they stay in it. Where JSON calls may follow each other, a call is none."""
        goes_on = self.tool_call is not None and self.parallel
        return (*(() if goes_on else (tag[1] for _, tag in self.calls)), self.answer[1])

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag of the protocol, open and close: what a tokenizer may want as single tokens."""
        calls = tuple(part for _, tag in self.calls for part in tag)
        return (*self.think, *calls, *self.answer, *self.information)

    @property
    def wrapper(self) -> tuple[str, str]:
        """What stands before and after the passages of an observation."""
        before, after = self.observation.format(passages="\x00").split("\x00")
        return before, after


def _braced(names: set[str]) -> str:
    return ", ".join("{" + name + "}" for name in sorted(names))


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
    if tool == "answer":
        return answer_action(content, thought=thought, citations=protocol.citations, empty_answer=protocol.empty_answer)
    lines = content.split("\n") if protocol.parallel else [content]
    requests = tuple(ToolRequest(tool=tool, argument=line.strip()) for line in lines if line.strip())
    if not requests:
        error = "the query is empty" if tool == SEARCH else "the document has no name"
        return Action(kind="invalid", thought=thought, error=error)
    return Action(kind="call", thought=thought, requests=requests)
