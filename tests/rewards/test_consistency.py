import importlib.util
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Unit
from rewards.annotation import MissingAnnotation
from rewards.compose import Composition, RewardTerm
from rewards.consistency import ConsistencyReward, standard_error
from rewards.embeddings import TextEmbeddings
from rewards.similarity import bleu2, token_f1
from rewards.text_space import shared_embeddings
from tests.rewards.builders import QUESTION, answer, context, group, paraphrase_set, search, trajectory

ASKED = {"q": QUESTION}


def rollouts(*answers: str | None):
    """Rollouts that give these answers; None never answers."""
    return [trajectory(answer(a)) if a is not None else trajectory(search([])) for a in answers]


def scores(*wordings, **params) -> list[float]:
    unit = paraphrase_set(*(rollouts(*w) for w in wordings))
    return ConsistencyReward(context(), **params)(unit, ASKED).outcome.tolist()


def brute_force(table: list[list[str | None]], similarity) -> list[float]:
    """1 / ((n - 1) g) times the sum over the rollouts of all other wordings."""
    n, g = len(table), len(table[0])
    values = []
    for i, j in product(range(n), range(g)):
        total = 0.0
        for u, m in product(range(n), range(g)):
            if u != i and table[i][j] is not None and table[u][m] is not None:
                total += similarity(table[i][j], table[u][m])
        values.append(total / ((n - 1) * g))
    return values


some = st.sampled_from(["Oskel", "the town of Oskel", "Quillon Bay", "Bay of Quillon", "yes", None])


@st.composite
def tables(draw: st.DrawFn):
    n, g = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    return [[draw(some) for _ in range(g)] for _ in range(n)]


@given(tables(), st.sampled_from([("bleu2", bleu2), ("token_f1", token_f1)]))
def test_it_equals_the_formula(table, similarity) -> None:
    name, function = similarity
    assert scores(*table, similarity=name) == pytest.approx(brute_force(table, function))


def test_the_own_wording_never_counts() -> None:
    assert scores(["Oskel", "Oskel"], ["Lomira", "Lomira"]) == [0.0] * 4
    assert scores(["Oskel", "Lomira"], ["Oskel", "Lomira"]) == [0.5] * 4


def test_wordings_count_alike_where_rollouts_were_lost() -> None:
    unit = paraphrase_set(rollouts("Oskel"), rollouts("Oskel", "Oskel", "Oskel"), rollouts("Lomira"))
    assert ConsistencyReward(context())(unit, ASKED).outcome[0] == 0.5
    lost = replace(unit.trajectories[4], finish_reason="retrieval_outage")
    values = ConsistencyReward(context())(
        Unit(kind=unit.kind, trajectories=(*unit.trajectories[:4], lost)), ASKED
    ).outcome
    np.testing.assert_array_equal(values, [1.0, 1.0, 1.0, 1.0, np.nan])


def test_where_no_other_wording_is_left_it_does_not_apply() -> None:
    assert np.isnan(scores(["Oskel", "Oskel"])).all()
    plain = ConsistencyReward(context())(group(*rollouts("Oskel", "Oskel")), ASKED)
    assert np.isnan(plain.outcome).all() and all(np.isnan(turns).all() for turns in plain.turn)
    unit = paraphrase_set(
        rollouts("Oskel"), [trajectory(finish="engine_failure")], [trajectory(search([]), finish="cut")]
    )
    assert np.isnan(ConsistencyReward(context())(unit, ASKED).outcome).all()


def test_what_says_nothing_is_like_nothing() -> None:
    assert scores([None, " "], [None, " "]) == [0.0] * 4
    assert scores(["Cannot be determined."], ["cannot be determined"]) == [0.0, 0.0]
    assert scores(["Oskel", None], ["Oskel", None]) == [0.5, 0.0, 0.5, 0.0]
    assert scores(["42"], ["42"], refusals=["42"]) == [0.0, 0.0]


HONEST = (["Oskel", "Oskel"], ["Oskel", "in Oskel"])


@pytest.mark.parametrize("cheat", ["cannot be determined", "unknown", "I don't know", "N/A", " "])
def test_the_same_refusal_everywhere_earns_less_than_honest_rollouts(cheat: str) -> None:
    assert max(scores([cheat] * 2, [cheat] * 2)) < min(scores(*HONEST))


def test_the_same_wrong_answer_everywhere_is_paid_unless_only_right_ones_are() -> None:
    assert scores(["a town"] * 2, ["a town"] * 2) == [1.0] * 4
    assert max(scores(["a town"] * 2, ["a town"] * 2, only_if_correct=True)) == 0.0
    assert scores(*HONEST, only_if_correct=True)[0] > 0.5
    bare = replace(QUESTION, golden_answers=())
    unit = paraphrase_set(rollouts("Oskel"), rollouts("Oskel"))
    reward = ConsistencyReward(context(), only_if_correct=True)
    assert np.isnan(reward(unit, {"q": bare}).outcome).all()


def test_each_distinct_pair_is_compared_once() -> None:
    calls = []
    reward = ConsistencyReward(context())
    reward._similarity = lambda a, b: calls.append((a, b)) or bleu2(a, b)
    reward(paraphrase_set(*(rollouts("Oskel", "Oskel", "Lomira") for _ in range(3))), ASKED)
    assert sorted(calls) == sorted(product(["Lomira", "Oskel"], repeat=2))


TABLE = [
    ["Oskel", "the town of Oskel", "Quillon Bay", None],
    ["Oskel", "Oskel town", "Lomira", "Bay of Quillon"],
    ["the harbour town of Oskel", "Quillon Bay", "Quillon Bay", "Oskel"],
    ["Lomira", None, "Oskel", "town of Oskel"],
]


def similarities(i: int, j: int) -> list[list[float]]:
    """Of a rollout of `TABLE` with those of the other wordings."""
    mine = TABLE[i][j]
    others = [TABLE[u] for u in range(len(TABLE)) if u != i]
    return [[0.0 if mine is None or o is None else bleu2(mine, o) for o in other] for other in others]


SIZES = pytest.mark.parametrize(("wordings", "count"), [(1, 1), (2, 1), (2, 3), (3, 2), (3, 4)])


@SIZES
def test_the_standard_error_is_that_of_all_possible_draws(wordings: int, count: int) -> None:
    for i, j in product(range(4), repeat=2):
        rows = similarities(i, j)
        estimates = []
        for chosen in combinations(rows, wordings):
            for drawn in product(*(combinations(row, count) for row in chosen)):
                estimates.append(np.mean([np.mean(row) for row in drawn]))
        error = standard_error(rows, wordings=wordings, rollouts=count)
        assert np.mean(estimates) == pytest.approx(np.mean(rows)), "unbiased"
        assert np.std(estimates) == pytest.approx(error, abs=1e-9)
        assert error <= 0.5 / np.sqrt(wordings)


@SIZES
def test_the_average_of_a_thousand_seeds_is_within_a_hundredth_of_the_exact_reward(wordings: int, count: int) -> None:
    unit = paraphrase_set(*(rollouts(*w) for w in TABLE))
    rewards = [ConsistencyReward(context(), wordings=wordings, rollouts=count, seed=seed) for seed in range(1000)]
    means = np.mean([reward(unit, ASKED).outcome for reward in rewards], axis=0)
    np.testing.assert_allclose(means, brute_force(TABLE, bleu2), atol=0.01)


def test_other_ids_draw_independently() -> None:
    """Over trajectories of other names one seed is a uniform draw: mean and spread are those of the formula."""
    reward = ConsistencyReward(context(), wordings=2, rollouts=1)
    draws = []
    for k in range(1000):
        unit = paraphrase_set(*([replace(t, id=f"{k}-{t.id}") for t in rollouts(*w)] for w in TABLE))
        draws.append(reward(unit, ASKED).outcome)
    for k, (i, j) in enumerate(product(range(4), repeat=2)):
        error = standard_error(similarities(i, j), wordings=2, rollouts=1)
        mine = np.array(draws)[:, k]
        assert abs(mine.mean() - np.mean(similarities(i, j))) <= 4 * error / np.sqrt(1000) + 1e-9
        assert mine.std() == pytest.approx(error, abs=0.03)


def test_a_sample_of_everything_is_exact_and_a_seed_repeats_itself() -> None:
    unit = paraphrase_set(*(rollouts(*w) for w in TABLE))
    whole = ConsistencyReward(context(), wordings=9, rollouts=9)(unit, ASKED).outcome
    np.testing.assert_allclose(whole, brute_force(TABLE, bleu2))
    once = [ConsistencyReward(context(), wordings=1, rollouts=1, seed=3)(unit, ASKED).outcome for _ in range(2)]
    np.testing.assert_array_equal(*once)
    other = ConsistencyReward(context(), wordings=1, rollouts=1, seed=4)(unit, ASKED).outcome
    assert (other != once[0]).any()
    order = [5, 0, 15, 3, 1, 2, 4, 6, 7, 14, 9, 8, 10, 11, 13, 12]
    shuffled = Unit(kind="paraphrase_set", trajectories=tuple(unit.trajectories[i] for i in order))
    again = ConsistencyReward(context(), wordings=1, rollouts=1, seed=3)(shuffled, ASKED).outcome
    np.testing.assert_array_equal(again, once[0][order])


class Letters:
    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0 + text.count(letter) for letter in "aeios"] for text in texts])


def test_an_encoder_is_asked_once_for_each_text() -> None:
    embeddings = TextEmbeddings(None, Letters())
    reward = ConsistencyReward(context(), similarity="embedding", embeddings=embeddings)
    unit = paraphrase_set(rollouts("Oskel", "Lomira"), rollouts("Oskel.", "Lomira"))
    values = reward(unit, ASKED).outcome
    like = embeddings.cosine("oskel", "lomira")
    assert values == pytest.approx([(1 + like) / 2] * 4)
    assert embeddings.misses == 2
    reward(unit, ASKED)
    assert embeddings.misses == 2 and embeddings.hit_rate > 0.5


def test_an_encoder_by_name_is_the_one_of_all_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())  # it would be loaded at the first text
    one, other = (ConsistencyReward(context(), similarity="embedding", model="some-model") for _ in range(2))
    assert one.embeddings is other.embeddings is shared_embeddings("some-model")


def test_bad_input_is_refused() -> None:
    for params, message in [
        ({"similarity": "rouge"}, r"similarity must be one of .* got 'rouge'"),
        ({"similarity": "embedding"}, r"embedding needs a model"),
        ({"model": "MiniLM"}, r"model 'MiniLM' is for similarity embedding, and similarity is bleu2"),
        ({"similarity": "embedding", "model": 3}, r"model must be a folder or a hub id, got 3"),
        ({"wordings": 3}, r"needs both wordings \(kappa\) and rollouts \(s\), got 3 and None"),
        ({"wordings": 0, "rollouts": 1}, r"wordings must be a whole number >= 1, got 0"),
        ({"wordings": 1, "rollouts": True}, r"rollouts must be a whole number >= 1, got True"),
        ({"seed": 0.5}, r"seed must be a whole number, got 0\.5"),
        ({"only_if_correct": 1}, r"only_if_correct must be true or false, got 1"),
        ({"refusals": "none"}, r"refusals must be a list of answers, got 'none'"),
        ({"refusals": None}, r"refusals must be a list of answers, got None"),
    ]:
        with pytest.raises(ValueError, match=message):
            ConsistencyReward(context(), **params)
    composition = Composition({"consistency": ConsistencyReward(context())}, {"consistency": RewardTerm()})
    with pytest.raises(MissingAnnotation, match="'consistency' needs the dataset field 'paraphrases'"):
        composition.check([replace(QUESTION, paraphrases=())])
