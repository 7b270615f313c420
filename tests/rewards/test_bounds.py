"""No built-in reward ever pays more or less than the bounds that it states, which ordering guarantees rely on."""

import math
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.trajectory import FINISH_REASONS, Trajectory, Unit
from rewards.annotation import is_scorable
from rewards.answer import exact_match
from rewards.bounds import UNBOUNDED, Bounded, Bounds, bounds_of, bounds_to_go_of
from rewards.registry import REWARDS
from tests.rewards.builders import (
    QUESTION,
    answer,
    context,
    group,
    invalid,
    paraphrase_set,
    search,
    trajectory,
)

QUESTIONS = {QUESTION.id: QUESTION}

# Parameters beside the defaults under which the bounds must hold too.
PARAMS: dict[str, list[dict]] = {
    "format": [{"max_answer_words": 1}],
    "hop_relevance": [{"normalise": True, "value": 2.0}, {"search_price": 0.3}, {"value": 0.0}],
    "information_gain": [{"redundancy": 0.25}],
    "never_answering": [{"price": 0.5}],
    "citation_precision": [{"only_if_correct": True}],
    "citation_recall": [{"only_if_correct": True, "slack": 0}],
    "citation_rubric": [{"only_if_correct": False, "slack": None}, {"normalise": True}, {"identify_in": "answer"}],
    "consistency": [{"only_if_correct": True, "similarity": "token_f1"}, {"wordings": 1, "rollouts": 1}],
    "hop_potential": [
        {"terminal": terminal, "discount": discount, "value": 1.5}
        for terminal in ("zero", "keep", "answer")
        for discount in (1.0, 0.7, 0.2)
    ],
    "query_quality": [
        {"correct_by": "f1"},
        {"placed": "turns"},
        {"placed": "good"},
        {"gamma": 0.0},
        {"max_overlap": 0, "gamma": 0.3},
    ],
    "judgement": [{"aggregate": "sum"}, {"required": True, "label": "answer"}, {"false_reject": 0.9, "label": "hop"}],
    "reflection": [{"balanced": False, "label": "words"}, {"required": True}],
    "formatted_match": [{"format_weight": 0.4, "max_answer_words": 1}],
    "boundary": [{"bonus": 0.0}, {"thought_required": True, "wrong_searched": 0.3, "free_searches": 1}],
    "document_relevance": [
        {"aggregate": "sum", "relevance": "lexical"},
        {"min_f1": None, "relevance": "alias"},
        {"min_f1": None, "aggregate": "sum", "malformed_scale": 3.0},
        {"min_f1": 0.1, "unanswered_scale": 0.1, "wrong_scale": 5.0},
        {"judge": "rules", "aggregate": "sum"},
    ],
    "nuggets": [{"nuggets": "sentences"}, {"text": "both", "strict": True}, {"text": "shown"}, {"judge": "rules"}],
    "principles": [{"aggregate": "sum"}, {"aggregate": "sum", "judge": "rules"}],
    "step_quality": [{"aggregate": "sum", "max_turns": 2, "early_bonus": 1.0}, {"judge": "rules"}],
    "judged_answer": [{"max_extra_words": 0}],
    "answerability": [{"pay_right": False, "pay_repeats": True}],
    "splittability": [{"pay_right": False, "share": 2.0}],
    "coverage": [{"variant": "union"}, {"f1": True, "discount": 0.5}],
    "agreement": [{"only_if_correct": False}],
    "sufficiency": [{"threshold": 0.1}],
    "efficiency": [{"free": 1}, {"unit": "tokens", "free": 3}],
    "query_diversity": [{"productive_only": False}],
    "biased_relevance": [{"answer_type": "closed"}, {"answer_type": "open", "saturation": 2}],
    "encoder_similarity": [{"min_max": True}, {"text": "answer", "only_if_correct": False}],
}
CASES = [(name, params) for name in sorted(REWARDS) for params in ({}, *PARAMS.get(name, []))]

QUERIES = ["query", "Who founded Lomira?", "In which town did Tavo Rinsel grow up?", QUESTION.text, "Oskel", ""]
ANSWERS = ["Oskel", "oskel.", "the town of Oskel", "Tavo Rinsel", "yes", "unknown", " ", "Oskel " * 51]
stated = st.none() | st.booleans()
searches = st.builds(
    search,
    st.lists(st.sampled_from("abcxyz"), max_size=5),
    st.sampled_from(QUERIES),
    num_queries=st.integers(1, 3),
    thought=st.sampled_from(["", "Tavo Rinsel founded Lomira.", "I know it is Oskel."]),
    goal=st.sampled_from([None, "the founder of Lomira", "Oskel"]),
    judgement=stated,
    reflection=stated,
)
answers = st.builds(
    answer,
    st.sampled_from(ANSWERS),
    st.lists(st.integers(0, 7), max_size=8),
    thought=st.sampled_from(["", "Tavo Rinsel grew up in Oskel."]),
    judgement=stated,
    reflection=stated,
)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    steps = draw(st.lists(searches | st.just(invalid()), max_size=5))
    if draw(st.booleans()):
        return trajectory(*steps, draw(answers))
    return trajectory(*steps, finish=draw(st.sampled_from([r for r in FINISH_REASONS if r != "answered"])))


@st.composite
def units(draw: st.DrawFn) -> Unit:
    members = [
        replace(t, id=f"{t.id}-{i}") for i, t in enumerate(draw(st.lists(trajectories(), min_size=1, max_size=4)))
    ]
    if len(members) > 1 and draw(st.booleans()):
        return paraphrase_set(members[::2], members[1::2])
    return group(*members)


def is_right(t: Trajectory) -> bool:
    return exact_match(t.final_answer, QUESTION.golden_answers) == 1.0


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_every_built_in_reward_states_bounds(name: str) -> None:
    reward = REWARDS[name](context())
    assert isinstance(reward, Bounded), f"{name} has no bounds"
    for right in (True, False):
        stated = [bounds_of(reward, correct=right, max_turns=n) for n in range(1, 8)]
        assert all(isinstance(one, Bounds) for one in stated) and UNBOUNDED not in stated
        for fewer, more in pairwise(stated):  # a limit on the turns only ever takes something away
            assert more.low <= fewer.low and fewer.high <= more.high


@pytest.mark.parametrize(("name", "params"), CASES, ids=[f"{name} {params or ''}".strip() for name, params in CASES])
@settings(max_examples=60)
@given(unit=units())
def test_no_trajectory_leaves_the_bounds(name: str, params: dict, unit: Unit) -> None:
    reward = REWARDS[name](context(), **params)
    scores = reward(unit, QUESTIONS)
    for t, turns, outcome in zip(unit.trajectories, scores.turn, scores.outcome, strict=True):
        everything = np.array([*turns, outcome])
        if not is_scorable(t) or np.isnan(everything).all() or not t.num_turns:
            continue
        paid = float(np.nansum(everything))
        limits = bounds_of(reward, correct=is_right(t), max_turns=t.num_turns)
        assert limits.low - 1e-9 <= paid <= limits.high + 1e-9, (paid, limits, is_right(t))


@pytest.mark.parametrize(("name", "params"), CASES, ids=[f"{name} {params or ''}".strip() for name, params in CASES])
@settings(max_examples=40)
@given(unit=units())
def test_no_trajectory_leaves_the_bounds_from_a_turn_on(name: str, params: dict, unit: Unit) -> None:
    reward = REWARDS[name](context(), **params)
    scores = reward(unit, QUESTIONS)
    for t, turns, outcome in zip(unit.trajectories, scores.turn, scores.outcome, strict=True):
        if not is_scorable(t) or np.isnan([*turns, outcome]).all():
            continue
        limits = bounds_to_go_of(reward, correct=is_right(t), max_turns=t.num_turns)
        whole = bounds_of(reward, correct=is_right(t), max_turns=t.num_turns)
        assert limits.low <= whole.low and whole.high <= limits.high
        for first in range(t.num_turns):
            left = float(np.nansum([*turns[first:], outcome]))
            if t.finish_reason != "cut":  # a candidate has one turn of its own, and no outcome
                assert limits.low - 1e-9 <= left <= limits.high + 1e-9, (first, left, limits, is_right(t))


FOUND = (search(["a"], "founder Lomira"), search(["b"], "town Tavo Rinsel grow up"))
SURE = answer("Oskel", judgement=True, reflection=True)
GOOD = search(["a"], "founder of Lomira", thought="the founder of Lomira")
AGAIN = [search(["x"] * 400) for _ in range(2)]
# Parameters, right or not, most turns, the two ends, and for each end a trajectory that comes to it (within 0.01).
TIGHT = [
    ("exact_match", {}, True, 1, (1.0, 1.0), (answer("Oskel"),), (answer("Oskel"),)),
    ("exact_match", {}, False, 1, (0.0, 0.0), (answer("no"),), (answer("no"),)),
    ("f1", {}, False, 1, (0.0, 1.0), (answer("no"),), None),
    ("format", {}, True, 2, (0.0, 1.0), (invalid(), answer("Oskel")), (answer("Oskel"),)),
    ("format", {}, False, 1, (0.0, 1.0), (invalid(),), (answer("no"),)),
    ("never_answering", {"price": 0.5}, False, 1, (-0.5, 0.0), (search([]),), (answer("no"),)),
    ("never_answering", {}, True, 1, (0.0, 0.0), (answer("Oskel"),), (answer("Oskel"),)),
    (
        "hop_relevance",
        {"normalise": True},
        True,
        2,
        (0.0, 0.5),
        (answer("Oskel"),),
        (search(["a", "b"]), answer("Oskel")),
    ),
    ("hop_relevance", {"normalise": True}, True, 1, (0.0, 0.0), (answer("Oskel"),), (answer("Oskel"),)),
    ("hop_relevance", {"normalise": True}, False, 1, (0.0, 0.5), (answer("no"),), (search(["a", "b"]),)),
    ("information_gain", {}, True, 3, (-2.0, 1.0), (*AGAIN, answer("Oskel")), (search(["a", "b"]), answer("Oskel"))),
    ("information_gain", {}, False, 2, (-2.0, 1.0), AGAIN, (search(["a", "b"]),)),
    ("citation_precision", {}, False, 2, (0.0, 1.0), (answer("no"),), (search(["a"]), answer("no", (1,)))),
    ("citation_recall", {}, True, 2, (0.0, 1.0), (answer("Oskel"),), (search(["a", "b"]), answer("Oskel", (1, 2)))),
    ("citation_rubric", {}, True, 3, (0.0, 1.0), (answer("Oskel"),), (*FOUND, answer("Oskel", (1, 2)))),
    ("citation_rubric", {}, False, 3, (0.0, 0.0), (answer("no"),), (*FOUND, answer("in Oskel", (1, 2)))),
    (
        "citation_rubric",
        {"only_if_correct": False},
        False,
        3,
        (0.0, 1.0),
        (answer("no"),),
        (*FOUND, answer("in Oskel", (1, 2))),
    ),
    ("keyword", {}, True, 1, (0.0, 0.0), (answer("Oskel"),), (answer("Oskel"),)),
    ("keyword", {}, True, 3, (0.0, 1.0), (answer("Oskel"),), None),
    ("keyword", {}, False, 3, (0.0, 1.0), (answer("no"),), None),
    ("hop_potential", {}, True, 3, (0.0, 0.0), (answer("Oskel"),), (*FOUND, answer("Oskel"))),
    ("hop_potential", {"terminal": "keep"}, True, 3, (0.0, 0.5), (answer("Oskel"),), (*FOUND, answer("Oskel"))),
    ("hop_potential", {"terminal": "answer"}, True, 1, (0.5, 0.5), (answer("Oskel"),), (answer("Oskel"),)),
    ("query_quality", {}, True, 1, (1.0, 1.1), None, (answer("Oskel"),)),
    (
        "query_quality",
        {},
        True,
        4,
        (0.7, 1.1),
        (search([], num_queries=3), invalid(), answer("Oskel")),
        (answer("Oskel"),),
    ),
    ("query_quality", {}, False, 4, (0.0, 0.4), (invalid(),), None),
    ("judgement", {}, True, 1, (0.0, 0.0), (answer("Oskel"),), (answer("Oskel"),)),
    ("judgement", {}, True, 2, (-0.6, 0.3), (search([]), SURE), (search(["a", "b"]), SURE)),
    (
        "judgement",
        {"aggregate": "sum"},
        False,
        4,
        (-1.8, 0.9),
        (search([]), *[search([], judgement=True)] * 3),
        (search([]), *[search([], judgement=False)] * 3),
    ),
    ("reflection", {}, True, 2, (0.0, 1.0), (search([]), SURE), (search(["a"]), SURE)),
    ("reflection", {}, False, 1, (0.0, 0.0), (answer("no"),), (answer("no"),)),
    ("formatted_match", {}, True, 2, (0.8, 1.0), (invalid(), answer("Oskel")), (answer("Oskel"),)),
    ("formatted_match", {}, False, 1, (0.0, 0.2), (invalid(),), (answer("no"),)),
    ("boundary", {}, True, 2, (-1.0, 1.6), (invalid(), answer("Oskel")), (answer("Oskel"),)),
    ("boundary", {}, False, 1, (-1.0, 0.05), (invalid(),), (search([]),)),
    ("document_relevance", {}, True, 2, (2.0, 3.6), (answer("Oskel"),), (search(["a"]), answer("Oskel"))),
    ("document_relevance", {}, True, 1, (2.0, 2.0), (answer("Oskel"),), (answer("Oskel"),)),
    (
        "document_relevance",
        {"min_f1": 0.6},
        False,
        2,
        (0.0, 3.6),
        (answer("no"),),
        (search(["a"]), answer("town Oskel")),
    ),
    (
        "document_relevance",
        {"min_f1": None, "aggregate": "sum", "wrong_scale": 4.0},
        False,
        3,
        (0.0, 8.0),
        (answer("no"),),
        (*FOUND, answer("no")),
    ),
    ("nuggets", {}, True, 1, (1.0, 1.0), (answer("Oskel"),), (answer("Oskel"),)),
    ("nuggets", {}, False, 1, (0.0, 1.0), (answer("no"),), (answer("it is Oskel"),)),
    ("principles", {}, True, 1, (0.0, 0.0), (answer("Oskel"),), (answer("Oskel"),)),
    ("principles", {"aggregate": "sum"}, False, 2, (0.0, 2.0), (answer("no"),), (GOOD, GOOD)),
    ("principles", {}, True, 2, (0.0, 1.0), (invalid(), answer("Oskel")), (GOOD, answer("Oskel"))),
    (
        "step_quality",
        {"aggregate": "sum"},
        True,
        2,
        (-1.95, 4.05),
        (invalid(), answer("Oskel")),
        (GOOD, answer("Oskel", thought="Lomira")),
    ),
    ("step_quality", {}, False, 2, (-2.0, 2.0), (invalid(),), (GOOD,)),
    ("judged_answer", {}, True, 1, (1.0, 1.0), (answer("Oskel"),), (answer("Oskel"),)),
    ("judged_answer", {}, False, 1, (0.0, 1.0), (answer("no"),), (answer("it is Oskel"),)),
]


@pytest.mark.parametrize(("name", "params", "right", "max_turns", "ends", "lowest", "highest"), TIGHT)
def test_the_bounds_are_as_stated_and_are_come_near(name, params, right, max_turns, ends, lowest, highest) -> None:
    reward = REWARDS[name](context(), **params)
    limits = bounds_of(reward, correct=right, max_turns=max_turns)
    assert (limits.low, limits.high) == pytest.approx(ends)
    for turns, end in ((lowest, ends[0]), (highest, ends[1])):
        if turns is not None:
            t = trajectory(*turns)
            assert is_right(t) is right and t.num_turns <= max_turns
            scores = reward(group(t), QUESTIONS)
            assert float(np.nansum([*scores.turn[0], *scores.outcome])) == pytest.approx(end, abs=0.01)


def best_and_worst(discount: float, terminal: str, max_turns: int, right: bool) -> tuple[float, float]:
    """Of all ways to find 0, 1 or 2 supports turn by turn, tried one by one; finished and, where wrong, cut."""
    reward = REWARDS["hop_potential"](context(), value=1.0, discount=discount, terminal=terminal)
    sums = []
    for length in range(1, max_turns + 1):
        for shown in product(([], ["a"], ["b"], ["a", "b"]), repeat=length - 1):
            steps = [search(s) for s in shown]
            ends = [(answer("Oskel"), None)] if right else [(answer("no"), None)]
            if not right:
                ends += [
                    (search(s), finish) for s in ([], ["a"], ["b"], ["a", "b"]) for finish in ("turn_limit", "cut")
                ]
            for last, finish in ends:
                scores = reward(group(trajectory(*steps, last, finish=finish)), QUESTIONS)
                sums.append(float(scores.turn[0].sum()))
    return min(sums), max(sums)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("terminal", ["zero", "keep", "answer"])
@pytest.mark.parametrize("discount", [1.0, 0.7, 0.3])
def test_the_bounds_of_the_potential_equal_those_of_all_trajectories(
    right: bool, terminal: str, discount: float
) -> None:
    reward = REWARDS["hop_potential"](context(), value=1.0, discount=discount, terminal=terminal)
    for max_turns in (1, 2, 3):
        limits = bounds_of(reward, correct=right, max_turns=max_turns)
        assert (limits.low, limits.high) == pytest.approx(best_and_worst(discount, terminal, max_turns, right))


def test_right_is_above_wrong_in_query_quality_by_its_bounds() -> None:
    reward = REWARDS["query_quality"](context())
    right, wrong = (bounds_of(reward, correct=c, max_turns=9) for c in (True, False))
    assert wrong.high < right.low


def test_a_reward_without_bounds_is_unbounded_and_bounds_are_checked() -> None:
    assert bounds_of(object(), correct=True, max_turns=3) == Bounds(low=-math.inf, high=math.inf)
    with pytest.raises(ValueError, match=r"bounds from 1\.0 to 0\.0"):
        Bounds(low=1.0, high=0.0)
    with pytest.raises(ValueError, match="bounds from nan"):
        Bounds(low=math.nan, high=0.0)
