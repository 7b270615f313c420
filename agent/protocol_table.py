"""The table of a protocol: its fields, what they must hold, what follows from them. `agent.protocol` puts it to use.

What parses one form of actions, or writes one form of turns, needs the table alone and imports it from here.
"""

from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal

from agent.tools import OPEN, SEARCH

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
    judge, goal, reflect: tags in which an action may say what it makes of what it read, before its call or answer: see
        `agent.statements`. None: the protocol has no such tag. Not for JSON calls.
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
    judge: Tag | None = None
    goal: Tag | None = None
    reflect: Tag | None = None
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
        optional = ("tool_call", "judge", "goal", "reflect")
        for field in ("think", "search", "open", "answer", "information", *optional):
            tag = getattr(self, field)
            if tag is None and field in optional:
                continue
            if len(tag) != 2 or not all(isinstance(part, str) and part for part in tag) or tag[0] == tag[1]:
                raise ValueError(f"protocol {self.name!r}: {field} must be an (open, close) pair of tags, got {tag!r}")
        if self.statements and self.tool_call is not None:
            raise ValueError(
                f"protocol {self.name!r}: judge, goal and reflect are said in tags before the action, which JSON calls "
                "have no place for: set tool_call to null, or leave them out"
            )
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
        said = tuple(part for tag in self.statements for part in tag)
        return (*self.think, *said, *calls, *self.answer, *self.information)

    @property
    def statements(self) -> tuple[Tag, ...]:
        """The tags in which an action says what it makes of what it read."""
        return tuple(tag for tag in (self.judge, self.goal, self.reflect) if tag is not None)

    @property
    def wrapper(self) -> tuple[str, str]:
        """What stands before and after the passages of an observation."""
        before, after = self.observation.format(passages="\x00").split("\x00")
        return before, after


def _braced(names: set[str]) -> str:
    return ", ".join("{" + name + "}" for name in sorted(names))
