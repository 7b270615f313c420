"""Rewards that the protocol cannot serve, gates that are never open, judges that do not answer: refused beforehand."""

from collections.abc import Iterator
from typing import Any

import pytest

from agent.protocols.registry import PROTOCOLS
from rewards.judge import open_judge
from rewards.registry import REWARDS
from tests.rewards.builders import context
from tests.rewards.judge.chat_server import ChatServer
from tests.train.conftest import run_settings
from train.assembly import assemble
from train.config import check_config
from train.config_file import ConfigError
from train.plan_rewards import budget_words, reward_lines
from train.reward_check import probe_judges, refuse_protocol_without
from train.run import train
from train.testbed import Testbed

NEEDS = {
    "judgement": {"judge"},
    "reflection": {"goal", "reflect"},
    "citation_precision": {"citations"},
    "citation_recall": {"citations"},
    "citation_rubric": {"citations"},
}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    made = ChatServer()
    yield made
    made.close()


class Judging:
    """A reward with a judge."""

    def __init__(self, judge: Any) -> None:
        self.judge = judge


@pytest.mark.parametrize("name", NEEDS)
def test_a_reward_that_the_protocol_cannot_serve_is_refused(name: str) -> None:
    rewards: dict[str, Any] = {"mine": REWARDS[name](context())}
    assert rewards["mine"].needs_of_protocol == NEEDS[name]
    for protocol in PROTOCOLS.values():
        lacking = sorted(field for field in NEEDS[name] if not getattr(protocol, field))
        if not lacking:
            refuse_protocol_without(rewards, protocol)
            continue
        with pytest.raises(ConfigError) as error:
            refuse_protocol_without(rewards, protocol)
        for word in ("rewards.mine", f"protocol.{lacking[0]}", protocol.name, "waymark_stating"):
            assert word in str(error.value)


def test_a_need_that_no_protocol_can_have_is_a_mistake_of_the_reward() -> None:
    reward: Any = Judging(None)
    reward.needs_of_protocol = frozenset({"juge"})
    with pytest.raises(ValueError, match="states needs_of_protocol juge"):
        refuse_protocol_without({"r": reward}, next(iter(PROTOCOLS.values())))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rewards": {"exact_match": {}, "judgement": {}}}, "rewards.judgement needs protocol.judge.*waymark_stating"),
        (
            {"rewards": {"exact_match": {}, "citation_recall": {}}, "protocol": {"name": "search_r1"}},
            "rewards.citation_recall needs protocol.citations, which protocol search_r1",
        ),
        (
            {"rewards": {"exact_match": {"gate": "wrong"}, "f1": {}}},
            "rewards.exact_match.gate is wrong, which is closed in every episode in which exact_match is other than 0",
        ),
    ],
)
def test_it_is_refused_at_assembly(testbed: Testbed, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        assemble(check_config(run_settings(testbed, **changes)))


def test_a_judge_is_asked_once_and_a_silent_one_is_named(server: ChatServer) -> None:
    judge = open_judge(server.spec(retries=0))
    rewards: dict[str, Any] = {"one": Judging(judge), "two": Judging(judge), "ruled": Judging(open_judge("rules"))}
    probe_judges(rewards)
    assert len(server.bodies) == 1 and judge is not None and judge.asked == judge.failed == 0
    server.say = lambda body: "fine"
    with pytest.raises(ConfigError, match=r"rewards.one.params.judge: m at http.* gave no verdict .*not JSON"):
        probe_judges(rewards)
    server.always = 503
    with pytest.raises(ConfigError, match=r"rewards.one.params.judge: .*503"):
        probe_judges(rewards)


def test_a_run_begins_with_no_judge_that_is_not_there(testbed: Testbed, tmp_path: Any) -> None:
    judge = {"kind": "endpoint", "url": "http://127.0.0.1:9", "model": "m", "retries": 0}
    rewards = {"exact_match": {}, "nuggets": {"params": {"judge": judge}}}
    with pytest.raises(ConfigError, match=r"rewards.nuggets.params.judge: m at http://127.0.0.1:9 gave no verdict"):
        train(check_config(run_settings(testbed, rewards=rewards)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_plan_tells_what_is_paid_and_how() -> None:
    config = check_config(
        {
            "policy": {"model": "m"},
            "data": {"index": "i", "train_questions": "q"},
            "evaluate_every": 0,
            "max_trajectories": 640,
            "rewards": {
                "exact_match": {},
                "hop_relevance": {
                    "gate": "correct",
                    "weight": 0.4,
                    "schedule": {"kind": "cosine", "share": 0.5},
                    "params": {"normalise": True},
                },
                "n": {"use": "nuggets", "params": {"judge": {"kind": "endpoint", "url": "http://h", "model": "big"}}},
            },
            "composition": {"combine": "gated_product", "bottom_line": ["exact_match"]},
            "rollout": {"noise": {"start": 0.1, "end": 0.5}, "unit": {"kind": "paraphrase_set"}},
            "credit": {"estimator": "turn", "params": {"discount": 0.9}},
        }
    )
    told = dict(reward_lines(config))
    assert told["rewards"] == (
        "+1 exact_match, +0.4 hop_relevance (gate correct; cosine 1 to 0 over 50% of the run; normalise True), +1 n "
        "(use nuggets; judge big at http://h)"
    )
    assert told["combine"] == "gated_product: bottom line exact_match; utilities hop_relevance, n"
    assert told["unit"].startswith("paraphrase_set (wordings 6, samples_per_wording 4")
    assert told["noise"].startswith("0.1 to 0.5 of the searches") and "base 4" in told["noise"]
    assert told["credit"].startswith("turn (discount 0.9), loss ")
    assert "max_trajectories 640 ends the run" in budget_words(config)
    plain = config.model_copy(update={"max_trajectories": None})
    assert budget_words(plain) == ""
