"""Scripted policies by name: what a config or a command line calls them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.extension import load_object
from agent.protocol import AgentProtocol
from envs.actor import ScriptedPolicy
from envs.policies.cheats import CitationStuffer, QuerySpammer, QuestionCopier
from envs.policies.closed_book import ClosedBookPolicy
from envs.policies.expert import ExpertPolicy, ExpertSettings
from envs.policies.noisy import NoiseRates, NoisyPolicy
from envs.policies.stating import StatingPolicy

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


POLICIES: dict[str, PolicyFactory] = {
    "expert": expert,
    "noisy": noisy,
    "closed_book": closed_book,
    "citation_stuffer": CitationStuffer,
    "query_spammer": QuerySpammer,
    "question_copier": QuestionCopier,
}


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
