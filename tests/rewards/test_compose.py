import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from agent.trajectory import Unit
from rewards.annotation import MissingAnnotation
from rewards.compose import RewardTerm, build_rewards
from rewards.per_trajectory import OutcomeReward, TurnReward
from rewards.reward import RewardContext
from rewards.score import Scores
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory

UNLABELLED = replace(QUESTION, id="bare", golden_answers=(), supporting_ids=())


class RunningMean:
    """A user's reward with state: how much better than its own running mean an episode's length is."""

    name = "running_mean"
    needs: frozenset[str] = frozenset()

    def __init__(self, context: RewardContext, *, rate: float = 0.5) -> None:
        self.rate, self.mean = rate, 0.0

    def __call__(self, unit: Unit, questions: Mapping[str, Any]) -> Scores:
        turns = np.array([float(t.num_turns) for t in unit.trajectories])
        scores = Scores.of_outcome(unit, turns - self.mean)
        self.mean += self.rate * (turns.mean() - self.mean)
        return scores

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"]


class WrongShape:
    name, needs = "wrong", frozenset()

    def __init__(self, context: RewardContext) -> None: ...

    def __call__(self, unit: Unit, questions: Mapping[str, Any]) -> Scores:
        return Scores(turn=(np.zeros(99),), outcome=np.zeros(1))


class Raises(WrongShape):
    def __call__(self, unit: Unit, questions: Mapping[str, Any]) -> Scores:
        raise KeyError("judge down")


class NeedsNonsense(WrongShape):
    needs = frozenset({"rubric"})


not_a_factory = 3


class Says:
    """Gives every trajectory the outcome that it was made with."""

    def __init__(self, context: RewardContext, *, outcome: Any = None, turns: Any = None) -> None:
        self.name, self.needs, self.said, self.by_turn = "says", frozenset(), outcome, turns

    def __call__(self, unit: Unit, questions: Mapping[str, Any]) -> Scores:
        told = self

        class OfOutcome(OutcomeReward):
            def outcome(self, trajectory: Any, question: Any) -> Any:
                return told.said

        class OfTurns(TurnReward):
            def turns(self, trajectory: Any, question: Any) -> Any:
                return None if told.by_turn == "None" else told.by_turn

        return (OfOutcome() if self.by_turn is None else OfTurns())(unit, questions)


def without_context(*, rate: float = 0.5) -> None: ...


def of_trl(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


def not_a_reward(context: RewardContext) -> int:
    return 3


def build(**terms: dict[str, Any]):
    return build_rewards({name: RewardTerm(**term) for name, term in terms.items()}, context())


def test_components_are_kept_apart_with_their_weights() -> None:
    composition = build(
        em={"use": "exact_match", "weight": 2.0},
        hop_relevance={"weight": 0.5, "params": {"value": 1.0}},
        cheap_hops={"use": "hop_relevance", "params": {"value": 0.1}},
        format={"weight": 0.0},
    )
    unit = group(trajectory(search(["a"]), answer("Oskel")))
    scores = composition.score(unit, {"q": QUESTION})
    assert composition.weights == {"em": 2.0, "hop_relevance": 0.5, "cheap_hops": 1.0, "format": 0.0}
    assert list(scores) == ["em", "hop_relevance", "cheap_hops", "format"]
    assert scores["em"].outcome.tolist() == [1.0]
    assert scores["hop_relevance"].turn[0].tolist() == [1.0, 0.0]
    assert scores["cheap_hops"].turn[0].tolist() == [0.1, 0.0]


def test_check_names_field_reward_and_count() -> None:
    composition = build(exact_match={}, hop_relevance={}, format={})
    composition.check([QUESTION])
    with pytest.raises(MissingAnnotation) as error:
        composition.check([QUESTION, UNLABELLED, replace(UNLABELLED, id="bare2", golden_answers=("x",))])
    message = str(error.value)
    assert (
        "reward 'exact_match' needs the dataset field 'golden_answers', which 1 of 3 questions lack (bare)" in message
    )
    assert "reward 'hop_relevance' needs the dataset field 'supporting_ids', which 2 of 3 questions lack" in message
    assert "rewards.hop_relevance.allow_missing: true" in message
    assert "format" not in message


def test_check_names_the_dataset() -> None:
    told = "'hop_relevance' needs the dataset field 'supporting_ids', which 1 of 2 questions of data/hotpot.jsonl lack"
    with pytest.raises(MissingAnnotation, match=told):
        build(hop_relevance={}).check([QUESTION, UNLABELLED], source="data/hotpot.jsonl")


def test_check_asks_a_reward_what_it_lacks_beyond_the_fields(tmp_path: Path) -> None:
    rubrics, nuggets = tmp_path / "rubrics.jsonl", tmp_path / "nuggets.jsonl"
    rubrics.write_text('{"id": "q", "rubrics": ["Lomira is <E0>"]}')
    nuggets.write_text('{"question_id": "q", "nuggets": [{"text": "Oskel"}]}')
    files = {"citation_rubric": {"params": {"file": str(rubrics)}}, "nuggets": {"params": {"nuggets": str(nuggets)}}}
    composition = build(**files)
    composition.check([QUESTION])
    with pytest.raises(MissingAnnotation) as error:
        composition.check([QUESTION, replace(QUESTION, id="r")])
    for name, what in (("citation_rubric", f"rubrics in {rubrics}"), ("nuggets", f"nuggets in {nuggets}")):
        assert f"reward '{name}' needs the {what}, which 1 of 2 questions lack (r)" in str(error.value)
        assert f"rewards.{name}.allow_missing: true" in str(error.value)
    without = replace(QUESTION, hops=tuple(replace(hop, answers=()) for hop in QUESTION.hops))
    with pytest.raises(MissingAnnotation, match="'citation_rubric' needs the answers of every hop, which 1 of 1"):
        build(citation_rubric={}).check([without])


def test_check_names_the_datasets_field_where_it_differs() -> None:
    class NeedsHops(WrongShape):
        needs = frozenset({"hops"})

    from rewards.compose import Composition

    composition = Composition({"per_hop": NeedsHops(context())}, {"per_hop": RewardTerm()})
    with pytest.raises(MissingAnnotation, match=r"dataset field 'decomposition' \(Question.hops\), which 1 of 1"):
        composition.check([replace(QUESTION, hops=())])


def test_allow_missing_accepts_some_but_not_all() -> None:
    composition = build(hop_relevance={"allow_missing": True})
    composition.check([QUESTION, UNLABELLED])
    with pytest.raises(MissingAnnotation, match="it would score nothing"):
        composition.check([UNLABELLED])


def test_missing_annotation_scores_nan_and_is_counted() -> None:
    composition = build(exact_match={}, hop_relevance={}, citation_recall={}, information_gain={}, never_answering={})
    unit = group(
        trajectory(search(["a"]), answer("Oskel"), question=UNLABELLED),
        trajectory(finish="token_limit", question=UNLABELLED, sample=1),
        trajectory(search(["a"]), finish="engine_failure", question=UNLABELLED, sample=2),
    )
    scores = composition.score(unit, {"bare": UNLABELLED})
    for name in ("exact_match", "hop_relevance", "citation_recall", "information_gain"):
        assert np.isnan(scores[name].outcome).all() and all(np.isnan(t).all() for t in scores[name].turn)
        assert composition.missing[name] == 2  # the outage is not a missing annotation
    assert composition.missing["never_answering"] == 0
    assert scores["never_answering"].outcome[:2].tolist() == [0.0, -1.0]


def test_a_group_without_turns_is_not_counted_where_nothing_is_missing() -> None:
    composition = build(hop_relevance={})
    composition.score(group(trajectory(finish="token_limit")), {"q": QUESTION})
    assert composition.missing == {"hop_relevance": 0}


def test_a_users_reward_by_reference_and_its_state() -> None:
    term = {"mine": {"use": "tests.rewards.test_compose:RunningMean", "params": {"rate": 0.25}}, "format": {}}
    first = build(**term)
    unit = group(trajectory(search(["a"]), answer("Oskel")))
    first.score(unit, {"q": QUESTION})
    state = json.loads(json.dumps(first.state_dict()))
    resumed = build(**term)
    resumed.load_state_dict(state)
    again, continued = resumed.score(unit, {"q": QUESTION}), first.score(unit, {"q": QUESTION})
    assert again["mine"].outcome.tolist() == continued["mine"].outcome.tolist() == [1.5]
    assert resumed.state_dict() == first.state_dict()


def test_counts_survive_a_resume_and_another_config_is_refused() -> None:
    composition = build(exact_match={})
    composition.score(group(trajectory(answer("x"), question=UNLABELLED)), {"bare": UNLABELLED})
    resumed = build(exact_match={})
    resumed.load_state_dict(composition.state_dict())
    assert resumed.missing == {"exact_match": 1}
    with pytest.raises(
        ValueError, match=r"the checkpoint holds the rewards \['exact_match'\].*this config has \['f1'\]"
    ):
        build(f1={}).load_state_dict(composition.state_dict())


def test_an_outage_stays_out_even_where_a_users_reward_scores_it() -> None:
    composition = build(mine={"use": "tests.rewards.test_compose:RunningMean"})
    unit = group(trajectory(answer("x")), trajectory(search(["a"]), finish="retrieval_outage", sample=1))
    outcome = composition.score(unit, {"q": QUESTION})["mine"].outcome
    assert outcome[0] == 1.0 and math.isnan(outcome[1])


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            {"exact_macth": {}},
            "no reward is named 'exact_macth'; did you mean 'exact_match'. .*: .*citation_precision, citation_recall",
        ),
        ({"hop_relevance": {"params": {"valeu": 1}}}, "takes value, normalise, search_price"),
        ({"exact_match": {"params": {"x": 1}}}, "exact_match takes no parameters"),
        ({"r": {"use": "tests.rewards.test_compose:not_a_reward"}}, "made a int, which is no reward"),
        ({"r": {"use": "tests.rewards.test_compose:not_a_factory"}}, "is a int; a reward is named by its factory"),
        ({"r": {"use": "tests.rewards.test_compose:NeedsNonsense"}}, r"needs \['rubric'\]; a Question has"),
        ({"r": {"use": "no_such_module:thing"}}, "cannot be imported"),
        ({"r": {"use": "tests.rewards.test_compose:without_context"}}, "does not take the context, its first argument"),
        (
            {"r": {"use": "tests.rewards.test_compose:of_trl"}},
            "rewards.adapters:trl_reward, .*test_compose:of_trl",
        ),
    ],
)
def test_a_wrong_config_says_what_is_allowed(term, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(**term)


def test_no_rewards_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="the config names no rewards"):
        build_rewards({}, context())


@pytest.mark.parametrize("term", [{"weight": math.inf}, {"weight": math.nan}, {"wieght": 1.0}])
def test_a_term_is_checked(term) -> None:
    with pytest.raises(ValidationError):
        RewardTerm(**term)


def test_scores_that_do_not_fit_the_unit_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"reward 'wrong' scored turns \[99\] of unit 'u', whose trajectories have \[1\]"
    ):
        build(wrong={"use": "tests.rewards.test_compose:WrongShape"}).score(
            group(trajectory(answer("x"))), {"q": QUESTION}
        )


def test_an_error_says_which_reward_and_unit() -> None:
    with pytest.raises(KeyError) as error:
        build(judge={"use": "tests.rewards.test_compose:Raises"}).score(group(trajectory(answer("x"))), {"q": QUESTION})
    (note,) = error.value.__notes__
    assert re.fullmatch(r"while reward 'judge' scored unit 'u' \(test_compose\.py:\d+\)", note)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"outcome": "good"}, "a score is 'good', which is no number"),
        ({"outcome": None}, "a score is None, which is no number"),
        ({"outcome": math.inf}, "infinite"),
        ({"turns": "None"}, "`turns` returned None; return one number per turn"),
        ({"turns": [0.0, 0.0]}, "has 1 turns, scored 2"),
        ({"turns": 0.5}, "`turns` returned float of 0 dimensions; return one number per turn"),
        ({"turns": ["good"]}, "could not convert string to float: 'good'"),
    ],
)
def test_what_a_users_reward_gives_wrong_is_told_with_its_name(said: dict[str, Any], message: str) -> None:
    made = build(mine={"use": "tests.rewards.test_compose:Says", "params": said})
    with pytest.raises(ValueError, match=f"reward 'mine', scoring unit 'u': .*{message}"):
        made.score(group(trajectory(answer("x"))), {"q": QUESTION})


def test_gates_that_are_never_open_together_are_refused() -> None:
    for other in ("wrong", "em_first"):
        with pytest.raises(ValidationError, match=f"gates correct and {other} are never open together"):
            RewardTerm(gate=["correct", other])
    assert RewardTerm(gate=["wrong", "em_first"]).gate == ("wrong", "em_first")


def test_an_unknown_question_is_refused() -> None:
    with pytest.raises(ValueError, match="answers question 'q', which is not among the 0 questions given"):
        build(exact_match={}).score(group(trajectory(answer("x"))), {})
