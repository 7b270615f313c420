"""Gates, schedules and what is logged of them, through the composition that a run has."""

from dataclasses import replace

import numpy as np
import pytest

from rewards.annotation import MissingAnnotation
from rewards.compose import Composition, RewardTerm, build_rewards
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory

UNLABELLED = replace(QUESTION, id="bare", golden_answers=())
FADING = {"weight": 0.5, "schedule": {"kind": "linear", "share": 0.5}}


def build(total_steps: int | None = 8, **terms: dict) -> Composition:
    made = {name: RewardTerm(**term) for name, term in terms.items()}
    return build_rewards(made, context(), total_steps=total_steps)


def test_credit_gets_what_is_behind_the_gate_and_the_log_what_is_before() -> None:
    composition = build(exact_match={}, hop_relevance={"gate": "correct"}, format={"gate": ["em_first", "answered"]})
    unit = group(trajectory(search(["a"]), answer("Oskel")), trajectory(search(["a"]), answer("Lomira"), sample=1))
    scored = composition.score_apart(unit, {"q": QUESTION})
    assert [turns.tolist() for turns in scored.raw["hop_relevance"].turn] == [[0.5, 0.0], [0.5, 0.0]]
    scores = composition.score(unit, {"q": QUESTION})
    assert [turns.tolist() for turns in scores["hop_relevance"].turn] == [[0.5, 0.0], [0.0, 0.0]]
    assert (scored.raw["format"].outcome.tolist(), scores["format"].outcome.tolist()) == ([1.0, 1.0], [0.0, 1.0])
    assert {name: states.tolist() for name, states in scored.gates.items()} == {
        "hop_relevance": [1.0, 0.0],
        "format": [0.0, 1.0],
    }


def test_a_gate_needs_annotations_of_its_own() -> None:
    composition = build(format={"gate": "correct"})
    with pytest.raises(
        MissingAnnotation, match="'format', behind gate correct, needs the dataset field 'golden_answers'"
    ):
        composition.check([QUESTION, UNLABELLED])
    composition = build(format={"gate": "correct", "allow_missing": True})
    composition.check([QUESTION, UNLABELLED])
    unit = group(trajectory(search(["a"]), answer("Oskel"), question=UNLABELLED))
    assert np.isnan(composition.score(unit, {"bare": UNLABELLED})["format"].outcome).all()
    assert composition.missing == {"format": 1}, "NaN by the gate is counted like any other"


def test_a_cut_candidate_is_not_counted_as_missing() -> None:
    composition = build(exact_match={}, hop_relevance={"gate": "correct"})
    scores = composition.score(group(trajectory(search(["a"]), finish="cut")), {"q": QUESTION})
    assert np.isnan(scores["exact_match"].outcome).all()
    assert np.isnan(scores["hop_relevance"].turn[0]).all(), "whether it is correct nobody has seen"
    assert composition.missing == {"exact_match": 0, "hop_relevance": 0}


def test_weights_change_per_step_taken_and_not_per_unit_scored() -> None:
    composition = build(exact_match={}, hop_relevance=FADING)
    unit = group(trajectory(search(["a"]), answer("Oskel")))
    found = []
    for _ in range(6):
        for _ in range(3):
            composition.score(unit, {"q": QUESTION})
        found.append(composition.weights["hop_relevance"])
        composition.advance()
    assert found == [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    assert composition.weights["exact_match"] == 1.0
    assert composition.schedule_factors == {"hop_relevance": 0.0}


def test_the_steps_taken_are_part_of_the_state() -> None:
    composition = build(exact_match={}, hop_relevance=FADING)
    for _ in range(3):
        composition.advance()
    again = build(exact_match={}, hop_relevance=FADING)
    again.load_state_dict(composition.state_dict())
    assert again.step == 3 and again.weights == composition.weights == {"exact_match": 1.0, "hop_relevance": 0.125}
    assert not again.is_stateful, "a count of steps does not make every learner score every group"


def test_a_schedule_over_a_share_needs_the_runs_steps() -> None:
    with pytest.raises(ValueError, match=r"rewards\.hop_relevance\.schedule is over a share of the run"):
        build(total_steps=None, hop_relevance=FADING)
    fading = {"schedule": {"kind": "linear", "steps": 4}}
    assert build(total_steps=None, hop_relevance=fading).weights == {"hop_relevance": 1.0}
