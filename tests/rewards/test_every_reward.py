"""What holds for all built-in rewards alike, and the sum of them against a whole catalogue of cheats."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import FINISH_REASONS, NOT_THE_POLICYS_FAULT, Unit
from rewards.answer import has_answer
from rewards.compose import RewardTerm, build_rewards
from rewards.registry import REWARDS
from tests.rewards.builders import QUESTION, answer, context, group, invalid, paraphrase_set, search, trajectory

QUESTIONS = {QUESTION.id: QUESTION}
RANGES = {
    "exact_match": (0.0, 1.0),
    "f1": (0.0, 1.0),
    "format": (0.0, 1.0),
    "hop_relevance": (0.0, 1.0),
    "information_gain": (-1.0, 1.0 + 1e-12),
    "never_answering": (-1.0, 0.0),
    "judgement": (-0.6, 0.3),
    "reflection": (0.0, 1.0),
    "formatted_match": (0.0, 1.0),
    "boundary": (-1.0, 1.6),
    "document_relevance": (0.0, 2.0),
    "nuggets": (0.0, 1.0),
    "principles": (0.0, 1.0),
    "step_quality": (-2.0, 2.1),
    "judged_answer": (0.0, 1.0),
    "citation_precision": (0.0, 1.0),
    "citation_recall": (0.0, 1.0),
    "citation_rubric": (0.0, 1.0),
    "consistency": (0.0, 1.0),
    "hop_potential": (-0.5, 0.5),
    "keyword": (0.0, 1.0),
    "query_quality": (0.0, 1.1),
    "answerability": (0.0, 0.1),
    "splittability": (0.0, 0.1),
    "coverage": (0.0, 0.2),
    "agreement": (0.0, 1.0),
    "sufficiency": (0.0, 0.5),
    "efficiency": (0.0, 1.0),
    "query_diversity": (0.0, 1.0),
    "biased_relevance": (0.0, 1.0),
    "encoder_similarity": (0.0, 1.0),
}
# Rewards that compare the wordings of a question: they score units of kind `paraphrase_set`, and nothing else.
ACROSS_WORDINGS: frozenset[str] = frozenset({"agreement", "consistency"})
# Rewards that speak only of something that these trajectories lack, and what it is; their own tests provide it.
SAYS_NOTHING_WITHOUT: dict[str, str] = {
    "judgement": "a judgement stated after a search",
    "reflection": "a reflection stated after a search",
    "principles": "a turn that does not answer",
}
# Rewards that score every turn but the one that answers, which is left to an outcome reward.
LEAVES_THE_ANSWER: frozenset[str] = frozenset({"principles"})

turns = st.lists(
    st.lists(st.sampled_from("abcxyz"), max_size=4).map(search) | st.just(invalid()),
    max_size=4,
)
finals = st.none() | st.builds(
    answer, st.sampled_from(["Oskel", "the town of Oskel", "", "yes"]), st.lists(st.integers(0, 7), max_size=5)
)


@st.composite
def trajectories(draw: st.DrawFn, sample: int = 0):
    steps, final = draw(turns), draw(finals)
    if final is not None:
        return trajectory(*steps, final, sample=sample)
    finish = draw(st.sampled_from([reason for reason in FINISH_REASONS if reason != "answered"]))
    return trajectory(*steps, finish=finish, sample=sample)


@st.composite
def units(draw: st.DrawFn):
    return group(*(draw(trajectories(sample=i)) for i in range(draw(st.integers(1, 4)))))


def unit_for(name: str, *members) -> Unit:
    """A plain group, or the same trajectories under two wordings in turn where the reward compares wordings."""
    if name not in ACROSS_WORDINGS:
        return group(*members)
    return Unit(
        kind="paraphrase_set",
        trajectories=tuple(replace(t, view=t.sample % 2, group_id=f"u-view{t.sample % 2}") for t in members),
    )


def may_say_nothing(name: str, unit: Unit, t) -> bool:
    """True where a reward may find that it does not apply to a trajectory that was no outage."""
    if name in ACROSS_WORDINGS:
        return not any(other.view != t.view and has_answer(other) for other in unit.trajectories)
    return name in SAYS_NOTHING_WITHOUT


def test_the_registry_is_complete() -> None:
    assert set(RANGES) == set(REWARDS)
    assert set(REWARDS) >= ACROSS_WORDINGS | set(SAYS_NOTHING_WITHOUT)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_names_needs_and_docstrings(name: str) -> None:
    reward = REWARDS[name](context())
    assert reward.name == name
    doc = type(reward).__doc__ or ""
    for word in ("Formula", "Range", "Source:", "Needs:"):
        assert word in doc, f"{name} does not state its {word}"
    for field in reward.needs:
        assert field in doc


@pytest.mark.parametrize("name", sorted(REWARDS))
@given(unit=units())
def test_shape_range_and_outages(name: str, unit) -> None:
    unit = unit_for(name, *unit.trajectories)
    scores = REWARDS[name](context())(unit, QUESTIONS)
    low, high = RANGES[name]
    assert scores.outcome.shape == (len(unit.trajectories),)
    for t, values, outcome in zip(unit.trajectories, scores.turn, scores.outcome, strict=True):
        assert values.shape == (t.num_turns,)
        everything = np.array([*values, outcome])
        if t.finish_reason in NOT_THE_POLICYS_FAULT:
            assert np.isnan(everything).all()
        else:
            applying = everything[~np.isnan(everything)]
            # An outcome does not apply to a branch's candidate that was cut; the scores of its turns do.
            allowed = {0 if t.finish_reason == "cut" else 1, t.num_turns}
            if name in LEAVES_THE_ANSWER:
                assert len(applying) == sum(turn.action.kind != "answer" for turn in t.turns)
            else:
                assert len(applying) in (allowed | {0} if may_say_nothing(name, unit, t) else allowed)
            assert (applying >= low).all() and (applying <= high).all()


@pytest.mark.parametrize("name", sorted(REWARDS))
@given(unit=units(), data=st.data())
def test_permuted_trajectories_permute_the_scores(name: str, unit, data) -> None:
    order = data.draw(st.permutations(range(len(unit.trajectories))))
    reward = REWARDS[name](context())
    plain = reward(unit_for(name, *unit.trajectories), QUESTIONS)
    permuted = reward(unit_for(name, *(unit.trajectories[i] for i in order)), QUESTIONS)
    np.testing.assert_array_equal(permuted.outcome, plain.outcome[list(order)])
    for i, values in zip(order, permuted.turn, strict=True):
        np.testing.assert_array_equal(values, plain.turn[i])


@pytest.mark.parametrize("name", sorted(REWARDS))
@pytest.mark.parametrize(
    "single",
    [
        pytest.param(trajectory(finish="token_limit"), id="no turn"),
        pytest.param(trajectory(search([]), answer("Oskel", (1,))), id="a search without hits"),
        pytest.param(trajectory(answer("Oskel")), id="an answer alone"),
        pytest.param(trajectory(invalid(), invalid()), id="nothing valid"),
    ],
)
def test_groups_of_one_and_empty_trajectories(name: str, single) -> None:
    scores = REWARDS[name](context())(unit_for(name, single), QUESTIONS)
    assert len(scores.turn) == 1 and len(scores.turn[0]) == single.num_turns
    if name in ACROSS_WORDINGS:
        assert np.isnan(np.array([*scores.turn[0], *scores.outcome])).all()
    elif single.num_turns and name not in SAYS_NOTHING_WITHOUT:
        assert not np.isnan(np.array([*scores.turn[0], *scores.outcome])).all()


STEPS = (
    search(["a", "x"], "Who founded Lomira?", thought="I need the founder of Lomira.", goal="the founder of Lomira"),
    search(
        ["b", "z"],
        "In which town did Tavo Rinsel grow up?",
        thought="Tavo Rinsel founded Lomira; next the town where Tavo Rinsel grew up.",
        goal="the town of Tavo Rinsel's youth",
        judgement=False,
        reflection=True,
    ),
)
CONCLUSION = {"thought": "Tavo Rinsel grew up in Oskel.", "judgement": True, "reflection": True}
HONEST = trajectory(*STEPS, answer("Oskel", (1, 3), **CONCLUSION))
PASSAGE_TEXT = "Tavo Rinsel grew up in the harbour town of Oskel."
CHEATS = {
    "citation stuffing": trajectory(*STEPS, answer("Oskel", tuple(range(1, 9)), **CONCLUSION)),
    "citing without reading": trajectory(answer("Oskel", (1, 2, 3))),
    "query spamming": trajectory(search(["x", "y", "z", "c"], num_queries=20), answer("Oskel", (1, 2))),
    "repeating the query": trajectory(*(search(["a", "x"]) for _ in range(6)), answer("Oskel", (1,))),
    "copying passages": trajectory(*STEPS, answer(PASSAGE_TEXT, (1, 3), **CONCLUSION)),
    "forging an observation": trajectory(invalid(), answer("Oskel", (1, 2))),
    "answering nothing": trajectory(*STEPS, answer(" ", (1, 3), **CONCLUSION)),
    "never answering": trajectory(*(search(["a", "b"]) for _ in range(6))),
    "searching on instead of answering": trajectory(search(["a"]), search(["b"]), search(["c"]), search(["x"])),
    "guessing at once": trajectory(answer("Lomira")),
}


@pytest.mark.parametrize("cheat", sorted(CHEATS))
def test_under_all_rewards_together_the_honest_episode_is_worth_most(cheat: str) -> None:
    composition = build_rewards({name: RewardTerm() for name in REWARDS}, context())

    def total(t) -> float:
        scores = composition.score(group(t), QUESTIONS)
        return sum(float(np.nansum([*s.turn[0], *s.outcome])) for s in scores.values())

    assert total(CHEATS[cheat]) < total(HONEST)


@pytest.mark.parametrize("cheat", sorted(CHEATS))
@pytest.mark.parametrize("name", sorted(REWARDS))
def test_no_cheat_is_ahead_of_the_honest_episode_in_any_single_reward(name: str, cheat: str) -> None:
    def total(t) -> float:
        unit = paraphrase_set([t], [HONEST, HONEST]) if name in ACROSS_WORDINGS else group(t)
        scores = REWARDS[name](context())(unit, QUESTIONS)
        return float(np.nansum([*scores.turn[0], scores.outcome[0]]))

    assert total(CHEATS[cheat]) <= total(HONEST) + 1e-9
