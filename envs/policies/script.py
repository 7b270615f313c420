"""How scripted policies put an action into a protocol's words.

What stands between tags begins with a space: a word then has the same token in a query as in the passage that it is
copied from, with any tokenizer that keeps the space before a word inside its token.
"""

import json
import random
from collections.abc import Sequence

from agent.protocol import AgentProtocol
from agent.tools import SEARCH


class Script:
    """Writes actions in one protocol. A thought of None leaves the thinking block out; "" leaves it empty."""

    def __init__(self, protocol: AgentProtocol) -> None:
        self.protocol = protocol

    def search(self, thought: str | None, query: str) -> str:
        """A thought and a search."""
        if self.protocol.tool_call is not None:
            call = json.dumps({"name": SEARCH, "arguments": {"query": query}}, ensure_ascii=False)
            return self._thought(thought) + f"\n{call}\n".join(self.protocol.tool_call)
        return self._thought(thought) + f" {query}".join(self.protocol.search)

    def answer(self, thought: str | None, answer: str, citations: Sequence[int]) -> str:
        """A thought and an answer, with marks such as `[2]` where the protocol has citations."""
        marks = "".join(f"[{number}]" for number in citations) if self.protocol.citations else ""
        return self._thought(thought) + (f" {answer} {marks}" if marks else f" {answer}").join(self.protocol.answer)

    def stated(
        self, action: str, *, judgement: bool | None = None, reflection: bool | None = None, goal: str | None = None
    ) -> str:
        """The action after what it says of what was read; None, and a tag that the protocol lacks, says nothing."""
        tags = self.protocol
        said = (
            (tags.judge, None if judgement is None else "yes" if judgement else "no"),
            (tags.reflect, None if reflection is None else "true" if reflection else "false"),
            (tags.goal, goal),
        )
        return "".join(f" {word}".join(tag) for tag, word in said if tag is not None and word is not None) + action

    def malformed(self, text: str, rng: random.Random) -> str:
        """The action with the other tag's ending, or without its opening tag; it still ends on a stop string."""
        search, answer = self.protocol.tool_call or self.protocol.search, self.protocol.answer
        right, wrong = (search, answer) if search[0] in text else (answer, search)
        if rng.random() < 0.5:
            return text.replace(right[1], wrong[1])
        return text.replace(right[0], "")

    def _thought(self, thought: str | None) -> str:
        if thought is None:
            return ""
        return (f" {thought}" if thought else "").join(self.protocol.think)
