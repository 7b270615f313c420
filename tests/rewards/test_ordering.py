"""The guarantee must refuse every composition that some wrong episode can win with, and no other."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Unit
from rewards.bounds import Bounds
from rewards.combine import GatedProduct
from rewards.compose import Composition, RewardTerm, build_rewards
from rewards.ordering import Case, OrderingViolated, check_ordering, may_be_missing, worst_case
from rewards.score import Scores
from tests.conftest import REPOSITORY
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory

EM = {"exact_match": {}}


class Pays:
    """A reward that says what it pays: right answers from `right`, all others from `wrong`, per turn if so asked."""

    name = "pays"
    needs: frozenset[str] = frozenset()

    def __init__(self, context: Any, *, right: Any = (0, 0), wrong: Any = (0, 0), per_turn: bool = False) -> None:
        self.ranges, self.per_turn = {True: right, False: wrong}, per_turn

    def __call__(self, unit: Unit, questions: Mapping[str, Any]) -> Scores:
        return Scores.of_outcome(unit, np.zeros(len(unit.trajectories)))

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        low, high = self.ranges[correct]
        return Bounds(low=low * (max_turns if self.per_turn else 1), high=high * (max_turns if self.per_turn else 1))


class Asks(Pays):
    """The same with a judge."""

    judge = object()


class Abstains(Pays):
    """The same, of some episodes alone."""

    may_abstain = True


class NeedsHops(Pays):
    """The same, over annotated hops."""

    needs = frozenset({"hops"})


class SaysNothing:
    """A reward without bounds."""

    name, needs = "silent", frozenset()

    def __init__(self, context: Any) -> None: ...

    def __call__(self, unit: Unit, questions: Mapping[str, Any]) -> Scores:
        return Scores.of_outcome(unit, np.zeros(len(unit.trajectories)))


def build(terms: Mapping[str, Mapping[str, Any]], **rule: Any) -> Composition:
    made = {
        name: RewardTerm(**{**({"use": f"{__name__}:Pays"} if name not in ("exact_match", "format") else {}), **term})
        for name, term in terms.items()
    }
    return build_rewards(made, context(), total_steps=20, **rule)


def refused(terms: Mapping[str, Mapping[str, Any]], max_turns: int = 4, **rule: Any) -> str:
    with pytest.raises(OrderingViolated) as error:
        check_ordering(build(terms, **rule), max_turns=max_turns)
    return str(error.value)


def test_the_violating_case_is_spelled_out_component_by_component() -> None:
    hops = {"params": {"right": (0, 1), "wrong": (0, 1), "per_turn": True}, "weight": 0.5}
    message = refused({**EM, "hops": hops})
    assert "within 4 turns (limits.max_turns) a wrong episode can earn 2 and a correct one as little as 1:" in message
    assert "exact_match: wrong up to 0, correct down to 1 (weight 1)" in message
    assert "hops: wrong up to 2, correct down to 0 (weight 0.5)" in message
    assert "multiply the weights of hops by less than 0.5" in message
    assert "set rewards.hops.gate: correct" in message


def test_what_the_message_advises_is_accepted() -> None:
    hops = {"params": {"right": (0, 1), "wrong": (0, 1), "per_turn": True}, "weight": 0.5}
    scale = float(re.search(r"by less than ([\d.]+)", refused({**EM, "hops": hops})).group(1))  # type: ignore[union-attr]
    assert check_ordering(build({**EM, "hops": {**hops, "weight": 0.5 * 0.99 * scale}}), max_turns=4).margin > 0
    refused({**EM, "hops": {**hops, "weight": 0.5 * scale}})  # a tie is no order
    assert check_ordering(build({**EM, "hops": {**hops, "gate": "correct"}}), max_turns=4).margin == 1.0
    assert check_ordering(build({**EM, "hops": hops}), max_turns=1).margin == 0.5, "fewer turns"


def test_prices_count_where_a_right_answer_can_have_to_pay_them() -> None:
    price = {"params": {"right": (-0.4, 0), "wrong": (-0.4, 0)}}
    assert check_ordering(build({**EM, "price": price}), max_turns=4).margin == pytest.approx(0.6)
    message = refused({**EM, "price": {**price, "weight": 3.0}})
    assert "price: wrong up to 0, correct down to -1.2" in message and "rewards.price.gate: em_first" in message
    kept = {**price, "weight": 3.0, "gate": "em_first"}
    assert check_ordering(build({**EM, "price": kept}), max_turns=4).margin == 1.0
    bonus = {"params": {"right": (0, 0.4), "wrong": (0, 0.4)}, "weight": -3.0}
    assert "bonus: wrong up to 0, correct down to -1.2" in refused({**EM, "bonus": bonus}), "a negative weight turns it"


def test_em_first_shaping_is_held_under_one() -> None:
    shaping = {"params": {"right": (0, 1), "wrong": (0, 1)}, "gate": "em_first"}
    assert check_ordering(build({**EM, "shaping": {**shaping, "weight": 0.2}}), max_turns=4).margin == 0.8
    message = refused({**EM, "shaping": {**shaping, "weight": 1.1}})
    assert "shaping: wrong up to 1.1, correct down to 0 (weight 1.1, gate em_first)" in message


def test_a_reward_that_says_nothing_of_itself_is_named_unless_its_weight_is_zero() -> None:
    silent = {"use": f"{__name__}:SaysNothing"}
    message = refused({**EM, "silent": silent})
    assert "nothing bounds silent: choose parameters" in message and "a method bounds(*, correct, max_turns)" in message
    assert check_ordering(build({**EM, "silent": {**silent, "weight": 0.0}}), max_turns=4).margin == 1.0
    refused({**EM, "silent": {**silent, "gate": "correct"}})  # for below it may go below 0


def test_schedules_are_looked_at_step_by_step() -> None:
    """Two that cross: at each end the order holds, in between it does not."""
    half = {"right": (0, 1), "wrong": (0, 1)}
    falling = {"params": half, "weight": 0.9, "schedule": {"kind": "cosine", "steps": 16}}
    rising = {"params": half, "weight": 0.9, "schedule": {"kind": "linear", "start": 0.0, "end": 1.0, "steps": 4}}
    message = refused({**EM, "falling": falling, "rising": rising})
    assert "at step 4 of the schedule" in message
    composition = build({**EM, "falling": {**falling, "weight": 0.5}, "rising": {**rising, "weight": 0.45}})
    case = check_ordering(composition, max_turns=4)
    every = [
        1 - 0.5 * composition.terms["falling"].factor_at(s, 20) - 0.45 * composition.terms["rising"].factor_at(s, 20)
        for s in range(20)
    ]
    assert case.margin == pytest.approx(min(every)) and case.step == int(np.argmin(every))


def test_an_annealed_outcome_is_refused_at_the_step_where_it_is_gone() -> None:
    gone = {"exact_match": {"schedule": {"kind": "linear", "steps": 5}}, "other": {}}
    message = refused(gone)
    assert "at step 5 of the schedule" in message and "such as exact_match, a weight above 0" in message


def test_what_may_say_nothing_of_a_right_answer_takes_its_points_away() -> None:
    rare = {"use": f"{__name__}:Abstains", "params": {"right": (1, 1), "wrong": (0, 0.5)}}
    assert may_be_missing(build({"rare": rare})) == {"rare"}
    assert "rare: wrong up to 0.5, correct down to 0 (weight 1, can be NaN)" in refused({"rare": rare})
    assert check_ordering(build({**EM, "rare": {**rare, "weight": 0.5}}), max_turns=4).margin == 0.75


def test_a_judge_that_fails_takes_no_right_answers_points_away() -> None:
    """The trajectory leaves its group: there it is neither below nor above any other."""
    judged = {"use": f"{__name__}:Asks", "params": {"right": (1, 1), "wrong": (0, 0.5)}}
    assert may_be_missing(build({"judged": judged})) == frozenset()
    assert check_ordering(build({"judged": judged}), max_turns=4).margin == 0.5


def test_what_whole_questions_lack_sets_no_right_answer_above_a_wrong_one() -> None:
    hops = {"use": f"{__name__}:NeedsHops", "params": {"right": (1, 1), "wrong": (0, 0)}}
    assert check_ordering(build({"hops": hops}), max_turns=4).margin == 1.0
    refused({"hops": {**hops, "allow_missing": True}})
    assert check_ordering(build({"exact_match": {"allow_missing": True}}), max_turns=4).margin == 1.0


def test_the_product_is_ordered_where_only_right_answers_keep_the_bottom_line() -> None:
    useful = {"params": {"right": (0.5, 1), "wrong": (0, 1)}}
    rule = GatedProduct(bottom_line=("exact_match",))
    assert check_ordering(build({**EM, "useful": useful}, rule=rule), max_turns=4).margin == pytest.approx(0.4995)
    rule = GatedProduct(bottom_line=("exact_match", "format"))
    message = refused({**EM, "format": {}, "useful": useful}, rule=rule)
    assert "gated_product: wrong up to 0.0316" in message
    assert "format in composition.bottom_line can be 0 in a correct episode: make it a utility" in message
    assert "put a component that only correct answers earn" not in message


def test_the_ways_out_of_a_product_name_what_is_at_fault() -> None:
    idle = {"params": {"right": (0, 1), "wrong": (0, 1)}}
    message = refused({**EM, "idle": idle}, rule=GatedProduct(bottom_line=("exact_match",)))
    assert "the utility (idle) can be 0 in a correct episode" in message and "put a component" not in message
    mended = {**EM, "idle": idle, "right": {"use": "exact_match"}}
    assert check_ordering(build(mended, rule=GatedProduct(bottom_line=("exact_match",))), max_turns=4).margin > 0
    useful = {"params": {"right": (0.5, 1), "wrong": (0, 1)}}
    message = refused({"format": {}, "useful": useful}, rule=GatedProduct(bottom_line=("format",)))
    assert "put a component that only correct answers earn (exact_match) into composition.bottom_line" in message


def test_the_product_is_ordered_without_what_whole_questions_lack() -> None:
    """With the hops the utilities are in order, and the product too; without them a wrong episode has more of both."""
    terms = {
        "kept": {"params": {"right": (0.8, 1), "wrong": (0, 0.3)}},
        "hops": {"use": f"{__name__}:NeedsHops", "params": {"right": (0.7, 1), "wrong": (0, 0.4)}, "weight": 3.0},
        "found": {"params": {"right": (0, 1), "wrong": (0, 1)}},
    }
    rule = GatedProduct(bottom_line=("kept",))
    expected = 0.801 * 3 * 0.7 / 4 - 0.301 * (3 * 0.4 + 1) / 4
    assert check_ordering(build(terms, rule=rule), max_turns=4).margin == pytest.approx(expected)
    terms["hops"]["allow_missing"] = True
    assert "gated_product: wrong up to 0.301, correct down to 0" in refused(terms, rule=rule)
    alone = {"kept": terms["kept"], "hops": terms["hops"]}
    assert check_ordering(build(alone, rule=rule), max_turns=4).margin > 0, "without it nothing is left to learn from"


@given(data=st.data())
def test_a_composition_that_is_accepted_orders_every_pair_that_its_rewards_can_pay(data: st.DataObject) -> None:
    ends = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted)
    terms = {
        f"r{i}": {
            "params": {"right": data.draw(ends), "wrong": data.draw(ends)},
            "weight": data.draw(st.floats(-2, 2)),
            "gate": data.draw(st.sampled_from([(), ("correct",), ("em_first",), ("answered",), ("well_formed",)])),
        }
        for i in range(3)
    }
    composition = build({"exact_match": {"weight": 3.0}, **terms})
    try:
        check_ordering(composition, max_turns=4)
    except OrderingViolated:
        return
    episodes = {True: trajectory(search(["a"]), answer("Oskel")), False: trajectory(search(["a"]), answer("Lomira"))}
    total = {}
    for correct, episode in episodes.items():
        total[correct] = 3.0 * correct
        for name, term in terms.items():
            low, high = term["params"]["right" if correct else "wrong"]
            drawn = Scores.of_outcome(group(episode), np.array([data.draw(st.floats(low, high))]))
            composition.rewards[name] = lambda unit, questions, drawn=drawn: drawn  # type: ignore[assignment]
            composition.rewards[name].needs = frozenset()  # type: ignore[attr-defined]
            behind = composition.score_apart(group(episode), {"q": QUESTION}).behind_gates[name]
            total[correct] += term["weight"] * behind.outcome[0]
    assert total[True] > total[False] - 1e-9


def test_a_case_without_bounds_has_no_finite_margin() -> None:
    case = Case(step=0, wrong={"a": np.inf, "b": 0.0}, correct={"a": -np.inf, "b": 1.0})
    assert case.margin == -np.inf
    assert worst_case(build(EM), max_turns=4).margin == 1.0


def test_the_pages_examples_are_what_they_say() -> None:
    page = (REPOSITORY / "docs" / "rewards.md").read_text(encoding="utf-8")
    section = page.split("## Composition\n")[1].split("\n## ")[0]
    ordered, product = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", section, re.S))
    terms = {name: RewardTerm(**term) for name, term in ordered["rewards"].items()}
    assert ordered["composition"] == {"ordering": "correct_above_wrong"}
    assert check_ordering(build_rewards(terms, context(), total_steps=10), max_turns=6).margin > 0
    rule = GatedProduct(bottom_line=tuple(product["composition"]["bottom_line"]))
    terms = {name: RewardTerm(**term) for name, term in product["rewards"].items()}
    unit = group(trajectory(search(["a", "b"]), answer("Oskel", (1, 2))))
    scores = build_rewards(terms, context(), rule=rule).score(unit, {"q": QUESTION})
    assert scores["gated_product"].outcome.tolist() == pytest.approx([1.001])
    terms = {"exact_match": RewardTerm(), "hop_relevance": RewardTerm(weight=4.0, params={"normalise": True})}
    with pytest.raises(OrderingViolated) as error:
        check_ordering(build_rewards(terms, context()), max_turns=4)
    case = str(error.value).split("\nWays out")[0]
    assert case in section


def test_a_product_is_bounded_where_a_utility_says_nothing_too() -> None:
    # Who reflects on nothing has a higher mean than who judges as well as one can, 0.3: f1 counts alone.
    rule = GatedProduct(bottom_line=("formatted_match",))
    terms = {"formatted_match": {}, "f1": {}, "judgement": {"weight": 5.0}}
    composition = build_rewards({name: RewardTerm(**term) for name, term in terms.items()}, context(), rule=rule)
    assert may_be_missing(composition) == {"judgement"}
    silent = trajectory(search(["a"]), answer("Oskel town, yes"))
    unit, asked = group(silent), {QUESTION.id: QUESTION}
    assert np.isnan(composition.score_apart(unit, asked).raw["judgement"].turn[0]).all()
    earned = composition.score(unit, asked)["gated_product"].outcome[0]
    case = worst_case(composition, max_turns=4)
    assert (1.0 + 5 * 0.3) / 6 * 0.201 < earned <= case.wrong["gated_product"]
    with pytest.raises(OrderingViolated):
        check_ordering(composition, max_turns=4)
