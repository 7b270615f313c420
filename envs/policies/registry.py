"""Scripted policies by name: what a config or a command line calls them."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.extension import load_object
from agent.protocol import AgentProtocol
from envs.actor import ScriptedPolicy
from envs.policies.cheats import (
    Cheat,
    CitationStuffer,
    EmptyThinker,
    Forger,
    GenericAnswerer,
    PassageCopier,
    QuestionCopier,
    Refuser,
    UnreadCiter,
)
from envs.policies.closed_book import ClosedBookPolicy
from envs.policies.expert import ExpertPolicy, ExpertSettings
from envs.policies.noisy import NoiseRates, NoisyPolicy
from envs.policies.search_cheats import EndlessSearcher, Guesser, NearDuplicator, QueryRepeater, QuerySpammer
from envs.policies.stating import CannedStatements, StatingPolicy

PolicyFactory = Callable[..., ScriptedPolicy]
"""`factory(protocol, **params) -> ScriptedPolicy`."""


def expert(protocol: AgentProtocol, **settings: Any) -> ScriptedPolicy:
    """The expert; `settings` are ExpertSettings' fields."""
    found = ExpertPolicy(protocol, ExpertSettings(**settings))
    return StatingPolicy(found, found) if protocol.statements else found


def noisy(
    protocol: AgentProtocol, *, rates: NoiseRates | Mapping[str, float] | None = None, **settings: Any
) -> ScriptedPolicy:
    """The expert with faults at `rates`; `settings` are ExpertSettings' fields."""
    checked = rates if isinstance(rates, NoiseRates) else NoiseRates(**(rates or {}))
    return demonstrator(ExpertPolicy(protocol, ExpertSettings(**settings)), checked)


def demonstrator(expert: ExpertPolicy, rates: NoiseRates) -> ScriptedPolicy:
    """The expert with faults at `rates`, which states what its protocol asks for."""
    noisy_one = NoisyPolicy(expert, rates)
    if not expert.script.protocol.statements:
        return noisy_one
    return StatingPolicy(noisy_one, expert, wrong_rate=rates.wrong_statement)


def closed_book(protocol: AgentProtocol, *, answers: Sequence[str]) -> ClosedBookPolicy:
    """Guesses from a list at once."""
    return ClosedBookPolicy(protocol, answers)


def cheat(
    cheating: Callable[..., ScriptedPolicy], *, judgement: bool | None = None, reflection: bool | None = None
) -> PolicyFactory:
    """A cheat's factory: where its protocol asks for statements, it makes them without looking."""

    @functools.wraps(cheating)
    def make(protocol: AgentProtocol, **params: Any) -> ScriptedPolicy:
        policy = cheating(protocol, **params)
        if not protocol.statements:
            return policy
        return CannedStatements(policy, protocol, judgement=judgement, reflection=reflection)

    return make


CHEATS: dict[str, PolicyFactory] = {
    "citation_stuffer": cheat(CitationStuffer),
    "unread_citer": cheat(UnreadCiter),
    "query_spammer": cheat(QuerySpammer),
    "query_repeater": cheat(QueryRepeater),
    "near_duplicator": cheat(NearDuplicator),
    "passage_copier": cheat(PassageCopier),
    "question_copier": cheat(QuestionCopier),
    "always_true": cheat(Cheat, reflection=True),
    "always_yes": cheat(Cheat, judgement=True),
    "guesser": cheat(Guesser),
    "endless_searcher": cheat(EndlessSearcher),
    "empty_thinker": cheat(EmptyThinker),
    "forger": cheat(Forger),
    "refuser": cheat(Refuser),
    "generic_answerer": cheat(GenericAnswerer),
}
"""Policies that want a reward and not the answer; `always_true` and `always_yes` say so of every observation."""

POLICIES: dict[str, PolicyFactory] = {"expert": expert, "noisy": noisy, "closed_book": closed_book, **CHEATS}


def load_policy(name: str, protocol: AgentProtocol, **params: Any) -> ScriptedPolicy:
    """A scripted policy by name or `module:object` (a factory that takes the protocol).

    Raises:
        ValueError: no such policy, or parameters that it does not take.
    """
    factory = load_object(name, kind="policy", builtins=POLICIES)
    try:
        inspect.signature(factory).bind(protocol, **params)
    except TypeError as error:
        raise ValueError(
            f"policy {name!r} does not take these parameters ({error}); its signature is {inspect.signature(factory)}"
        ) from error
    return factory(protocol, **params)
