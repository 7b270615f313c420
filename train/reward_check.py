"""What is checked of a run's rewards against what they are scored on: the protocol's tags, and judges that answer.

A reward states the fields of `AgentProtocol` that it reads in `needs_of_protocol`; under a protocol without them it
would be silent, or a constant, from the first step to the last.
"""

from collections.abc import Mapping

from agent.protocol import AgentProtocol
from agent.protocols.registry import PROTOCOLS
from rewards.judge.judge import ProbedJudge
from rewards.reward import Reward
from train.config_file import ConfigError


def refuse_protocol_without(rewards: Mapping[str, Reward], protocol: AgentProtocol) -> None:
    """See that the protocol has the tags that rewards read.

    Raises:
        ConfigError: it lacks some; the message names the rewards, the fields, and built-in protocols that have them.
        ValueError: a reward needs what no protocol has.
    """
    problems = []
    for name, reward in rewards.items():
        needs = frozenset(getattr(reward, "needs_of_protocol", ()))
        unknown = sorted(field for field in needs if not hasattr(protocol, field))
        if unknown:
            raise ValueError(
                f"rewards.{name} states needs_of_protocol {', '.join(unknown)}, which is no field of AgentProtocol"
            )
        lacking = sorted(field for field in needs if not getattr(protocol, field))
        if lacking:
            able = sorted(known for known, table in PROTOCOLS.items() if all(getattr(table, f) for f in needs))
            ways = f"set protocol.name: {' or '.join(able)}" if able else "take a protocol of your own that has it"
            problems.append(
                f"rewards.{name} needs protocol.{', protocol.'.join(lacking)}, which protocol {protocol.name} does not "
                f"have, so that it would score nothing but silence: {ways}, or leave the reward out"
            )
    if problems:
        raise ConfigError("\n  ".join(problems))


def probe_judges(rewards: Mapping[str, Reward]) -> None:
    """Ask each judge on a server one question whose answer is known to be readable, before anything is spent on it.

    Raises:
        ConfigError: it does not answer, or says what is no verdict; the message names the reward and the server.
    """
    probed: set[int] = set()
    for name, reward in rewards.items():
        judge = getattr(reward, "judge", None)
        if not isinstance(judge, ProbedJudge) or id(judge) in probed:
            continue
        probed.add(id(judge))
        if (fault := judge.probe()) is not None:
            raise ConfigError(
                f"rewards.{name}.params.judge: {judge.name} gave no verdict when it was asked before the first step: "
                f"{fault}. See that the server runs and serves this model, or leave the judge out"
            )
