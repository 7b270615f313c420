"""What an action says of what it has read, in tags that a protocol may have before its call or answer.

`<judge> No </judge>`: what was shown so far is not enough to answer (ReSeek, arXiv:2510.00568). `<goal> birthplace
</goal>`: what the search is to find, and `<reflect> True </reflect>`: the last observation met the last goal
(RE-Searcher, arXiv:2509.26048). They are said, and not enforced: a policy that judges "No" may answer all the same, and
rewards see both.
"""

import re
from dataclasses import replace
from functools import lru_cache

from agent.action import Action
from agent.protocol_table import AgentProtocol, Tag

_TRUE, _FALSE = frozenset({"yes", "true"}), frozenset({"no", "false"})


def with_statements(protocol: AgentProtocol, action: Action, said_before: str) -> Action:
    """The action with what its statements say; `said_before` is the completion up to the call or answer.

    The first complete tag of each kind counts. A judgement or reflection that is neither yes, true, no nor false, in
    any case, says nothing (None), and neither does an empty goal.
    """
    if not protocol.statements:
        return action
    return replace(
        action,
        judgement=_yes_or_no(_content(protocol.judge, said_before)),
        goal=_content(protocol.goal, said_before) or None,
        reflection=_yes_or_no(_content(protocol.reflect, said_before)),
    )


def _content(tag: Tag | None, text: str) -> str:
    match = _pattern(tag).search(text) if tag is not None else None
    return match.group(1).strip() if match else ""


def _yes_or_no(word: str) -> bool | None:
    bare = word.strip(" .!").lower()
    return True if bare in _TRUE else False if bare in _FALSE else None


@lru_cache(maxsize=64)
def _pattern(tag: Tag) -> re.Pattern[str]:
    return re.compile(f"{re.escape(tag[0])}(.*?){re.escape(tag[1])}", re.DOTALL)
