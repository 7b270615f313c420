"""What a policy did in one turn, parsed from the text that it sampled."""

from dataclasses import dataclass
from typing import Literal

ActionKind = Literal["call", "answer", "invalid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """One call that the policy asks for: `tool` is "search" with a query as `argument`, or "open" with a document.

    A document is named by id or title, with the number of a window where it is not the first: see `agent.tools`.
    """

    tool: str
    argument: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One parsed turn.

    kind `call` has `requests`; `answer` has `answer` (stripped, citation marks removed) and `citations` (the numbers in
    the order in which they stand, duplicates kept); `invalid` has `error`, which says in words what is wrong.
    `thought` is the text of the thinking block, or "".

    Where the protocol has tags for it, an action also says: `judgement`, whether what was shown so far is enough to
    answer; `goal`, what its search is to find; `reflection`, whether the last observation met the last goal. None
    where nothing is said.
    """

    kind: ActionKind
    thought: str = ""
    requests: tuple[ToolRequest, ...] = ()
    answer: str | None = None
    citations: tuple[int, ...] = ()
    error: str | None = None
    judgement: bool | None = None
    goal: str | None = None
    reflection: bool | None = None
