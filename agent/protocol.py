"""A protocol: the text conventions between a policy and its environment, as one table.

It holds the prompt, the tags that a policy writes, the wrapper around what it reads, and what an invalid action costs.
Dialects differ by their table alone (`agent/protocols/`), never by code. Only completions are parsed: the prompt's own
example can't be mistaken for an answer.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Literal

from agent.action import Action, ToolRequest
from agent.neutraliser import neutraliser

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
    answer: Tag = ("<answer>", "</answer>")
    information: Tag = ("<information>", "</information>")
    passage: str
    observation: str
    nothing_found: str = ""
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
        ):
            names = {name for _, name, _, _ in Formatter().parse(getattr(self, field)) if name is not None}
            if not needed <= names <= allowed:
                raise ValueError(
                    f"protocol {self.name!r}: {field} must contain {_braced(needed)} and may contain "
                    f"{_braced(allowed)}; it has {_braced(names) or 'none'} (write a literal brace as {{{{ or }}}})"
                )
        for field in ("think", "search", "answer", "information"):
            tag = getattr(self, field)
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

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a completion; they stay in it."""
        return (self.search[1], self.answer[1])

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag of the protocol, open and close: what a tokenizer may want as single tokens."""
        return (*self.think, *self.search, *self.answer, *self.information)

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
    token that the tokenizer adds by itself, and no end token.

    Raises:
        ValueError: the question is empty.
    """
    text = prompt_text(protocol, neutraliser(tokenizer, ()).clean(question_text))
    if getattr(tokenizer, "chat_template", None):
        message = [{"role": "user", "content": text}]
        chat = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        return tuple(tokenizer.encode(chat, add_special_tokens=False))
    plain = tokenizer.encode(text, add_special_tokens=False)
    ids = tokenizer.encode(text, add_special_tokens=True)
    extra_end = tokenizer.eos_token_id is not None and ids[-1:] == [tokenizer.eos_token_id] and ids[-1:] != plain[-1:]
    return tuple(ids[:-1] if extra_end else ids)


@lru_cache(maxsize=64)
def _action_pattern(search: Tag, answer: Tag) -> re.Pattern[str]:
    pairs = (f"{re.escape(opening)}(.*?){re.escape(closing)}" for opening, closing in (search, answer))
    return re.compile("|".join(pairs), re.DOTALL)


CITATION = re.compile(r"\[\s*([0-9]{1,6}(?:\s*,\s*[0-9]{1,6})*)\s*\]")


def parse_action(protocol: AgentProtocol, text: str) -> Action:
    """What the policy did in one completion. The first complete tag wins; what follows it does not count.

    Invalid: no complete search or answer, an empty query, an empty answer (unless the protocol takes it), and a
    completion that writes the observation's own tags, anywhere, because that forges what the environment says.
    """
    thought = _thought(protocol, text)
    forged = next((tag for tag in protocol.information if tag in text), None)
    if forged is not None:
        return Action(kind="invalid", thought=thought, error=f"{forged} may only be written by the environment")
    match = _action_pattern(protocol.search, protocol.answer).search(text)
    if match is None:
        error = f"no complete {''.join(protocol.search)} or {''.join(protocol.answer)}"
        return Action(kind="invalid", thought=thought, error=error)
    if match.group(1) is not None:
        query = match.group(1).strip()
        if not query:
            return Action(kind="invalid", thought=thought, error="the query is empty")
        return Action(kind="call", thought=thought, requests=(ToolRequest(tool="search", argument=query),))
    content = match.group(2).strip()
    citations: tuple[int, ...] = ()
    if protocol.citations:
        content, citations = _split_citations(content)
    if not content and not protocol.empty_answer:
        return Action(kind="invalid", thought=thought, citations=citations, error="the answer is empty")
    return Action(kind="answer", thought=thought, answer=content, citations=citations)


def _thought(protocol: AgentProtocol, text: str) -> str:
    opening, closing = protocol.think
    start = text.find(opening)
    if start < 0:
        return ""
    end = text.find(closing, start)
    return text[start + len(opening) : end].strip() if end >= 0 else ""


def _split_citations(answer: str) -> tuple[str, tuple[int, ...]]:
    """The answer without its marks, and the cited numbers in order: "Rome [2][5, 6]" -> ("Rome", (2, 5, 6))."""
    numbers = tuple(int(n) for mark in CITATION.findall(answer) for n in mark.split(","))
    bare = re.sub(r"\s+([.,;:!?])", r"\1", re.sub(r"[ \t]{2,}", " ", CITATION.sub("", answer))) if numbers else answer
    return bare.strip(), numbers
