"""Says before each action what a protocol with statements asks for: judgement, reflection, goal.

It leads another scripted policy and reads the truth off the gold hops: what was shown is enough when every hop is
found (an expert that does not skip hops found by chance then says so and searches on), the last observation met its
goal when the hop that was looked for is found. `wrong_rate` of the judgements and
reflections say the opposite, so that a policy which learns from them leaves a reward something to repair.


`CannedStatements` leads a cheat, which does not know the truth: it says what fits the action that it takes next, or
always the same.
"""

import random
from collections.abc import Sequence

from agent.protocol import AgentProtocol, parse_action
from agent.trajectory import Turn
from envs.actor import ScriptedPolicy
from envs.policies.expert import ExpertPolicy, is_found, relation_words
from envs.policies.script import Script
from envs.question import Question


class StatingPolicy:
    """Another policy's actions, each after its statements. Equal rng and episode give an equal action."""

    def __init__(self, inner: ScriptedPolicy, expert: ExpertPolicy, *, wrong_rate: float = 0.0) -> None:
        if not 0.0 <= wrong_rate <= 1.0:
            raise ValueError(f"wrong_rate is {wrong_rate!r}; it is a share and must be in [0, 1]")
        self._inner = inner
        self._expert = expert
        self._wrong_rate = wrong_rate

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The inner policy's next action with statements before it; its own draws are those without them."""
        action = self._inner.act(question, view, turns, rng)
        of_judgement, of_reflection = rng.random(), rng.random()
        plan = self._expert.plan(question, turns)
        protocol = self._expert.script.protocol
        searches = any(tag[0] in action for _, tag in protocol.calls)
        goal = relation_words(question.hops[0 if plan.hop is None else plan.hop]) if searches else None
        judgement: bool | None = None
        reflection: bool | None = None
        if turns:
            enough = all(is_found(hop, plan.seen) for hop in question.hops)
            judgement = enough != (of_judgement < self._wrong_rate)
            looked_for = self._expert.plan(question, turns[:-1]).hop
            if looked_for is not None:
                met = is_found(question.hops[looked_for], plan.seen)
                reflection = met != (of_reflection < self._wrong_rate)
        return self._expert.script.stated(action, judgement=judgement, reflection=reflection, goal=goal)


class CannedStatements:
    """Another policy's actions, each after statements that look at nothing that was read.

    Its goal is its query. A `judgement` or `reflection` of None follows the action: yes and true before an answer, no
    and false before another search. True or False says that every time.
    """

    def __init__(
        self,
        inner: ScriptedPolicy,
        protocol: AgentProtocol,
        *,
        judgement: bool | None = None,
        reflection: bool | None = None,
    ) -> None:
        self._inner = inner
        self._script = Script(protocol)
        self._judgement = judgement
        self._reflection = reflection

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The inner policy's next action with statements before it."""
        text = self._inner.act(question, view, turns, rng)
        action = parse_action(self._script.protocol, text)
        goal = action.requests[0].argument if action.requests else None
        if not turns:
            return self._script.stated(text, goal=goal)
        answers = action.kind != "call"
        return self._script.stated(
            text,
            judgement=answers if self._judgement is None else self._judgement,
            reflection=answers if self._reflection is None else self._reflection,
            goal=goal,
        )
