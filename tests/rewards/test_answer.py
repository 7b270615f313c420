"""Exact match, F1 and SubEM against the published scorers."""

import gzip
import json
import math
import re
import string
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answer import ExactMatchReward, F1Reward, exact_match, f1, normalize_answer, sub_em
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory

# prediction, golds, exact match, F1. The figures are those of HotpotQA's official scorer, best gold.
HARD_CASES = [
    ("Paris", ["Paris"], 1, 1.0),
    ("paris.", ["Paris"], 1, 1.0),
    ("the Eiffel Tower", ["Eiffel Tower"], 1, 1.0),
    ("an apple a day", ["apple day"], 1, 1.0),
    ("A", ["the"], 1, 0.0),  # both normalise to nothing: an exact match without a common token
    ("theatre", ["the atre"], 0, 0.0),
    ("Athens", ["an athens"], 1, 1.0),
    ("U.S.", ["US"], 1, 1.0),
    ("U. S.", ["US"], 0, 0.0),
    ("Spider-Man", ["SpiderMan"], 1, 1.0),
    ("Spider Man", ["Spider-Man"], 0, 0.0),
    ("rock 'n' roll", ["rock n roll"], 1, 1.0),
    ("O'Brien & Sons!", ["obrien sons"], 1, 1.0),
    ("the-end", ["theend"], 1, 1.0),
    ("Beyoncé", ["Beyonce"], 0, 0.0),
    ("BEYONCÉ", ["beyoncé"], 1, 1.0),
    ("1914–1918", ["1914-1918"], 0, 0.0),  # an en dash is no ASCII punctuation
    ("1914-1918", ["19141918"], 1, 1.0),
    ("“Heroes”", ["Heroes"], 0, 0.0),  # nor are curly quotes
    ('"Heroes"', ["Heroes"], 1, 1.0),
    ("a–b", ["–b"], 1, 1.0),  # a word boundary: the article before the dash falls
    ("ß", ["SS"], 0, 0.0),  # lower-casing is not case folding
    ("東京", ["東京"], 1, 1.0),
    ("caf\u0065\u0301", ["caf\u00e9"], 0, 0.0),  # composed and decomposed differ
    ("New\u00a0York", ["New York"], 1, 1.0),  # split() takes a no-break space
    ("yes", ["yes"], 1, 1.0),
    ("Yes.", ["yes"], 1, 1.0),
    ("yes it is", ["yes"], 0, 0.0),
    ("no", ["no way"], 0, 0.0),
    ("no", ["yes"], 0, 0.0),
    ("noanswer", ["noanswer"], 1, 1.0),
    ("noanswer here", ["noanswer"], 0, 0.0),
    ("no answer", ["noanswer"], 0, 0.0),
    ("yes no", ["no yes"], 0, 1.0),  # the rule is about the whole answer only
    ("yes", ["yes indeed", "yes"], 1, 1.0),
    ("1,000", ["1000"], 1, 1.0),
    ("1.5", ["15"], 1, 1.0),
    ("$5", ["5"], 1, 1.0),
    ("five", ["5"], 0, 0.0),
    ("12 May 1990", ["May 12, 1990"], 0, 1.0),
    ("1990", ["May 12, 1990"], 0, 0.5),
    ("Barack Obama", ["Obama", "Barack Hussein Obama"], 0, 0.8),
    ("Obama", ["Barack Obama", "Obama"], 1, 1.0),
    ("Obama Obama", ["Obama"], 0, 2 / 3),
    ("New York City", ["New York", "York"], 0, 0.8),
    ("", ["Paris"], 0, 0.0),
    ("", [""], 1, 0.0),
    ("  spaced \t out\n", ["spaced out"], 1, 1.0),
]


def reference_normalize(text: str) -> str:
    text = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def reference_f1(prediction: str, gold: str) -> float:
    p, g = reference_normalize(prediction), reference_normalize(gold)
    if (p in ("yes", "no", "noanswer") and p != g) or (g in ("yes", "no", "noanswer") and p != g):
        return 0.0
    same = 0
    left = g.split()
    for token in p.split():
        if token in left:
            left.remove(token)
            same += 1
    if same == 0:
        return 0.0
    precision, recall = same / len(p.split()), same / len(g.split())
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(("prediction", "golds", "em", "f1_score"), HARD_CASES)
def test_hard_cases_equal_the_official_scorer(prediction: str, golds: list[str], em: int, f1_score: float) -> None:
    reference_em = max(reference_normalize(prediction) == reference_normalize(gold) for gold in golds)
    assert exact_match(prediction, golds) == float(reference_em)
    assert f1(prediction, golds) == pytest.approx(max(reference_f1(prediction, gold) for gold in golds), abs=1e-12)
    assert (exact_match(prediction, golds), f1(prediction, golds)) == (em, pytest.approx(f1_score))


answers = st.text(alphabet=st.sampled_from("aAnthe yYesno .,-'é–1"), max_size=20) | st.sampled_from(
    ["yes", "no", "noanswer", "the", "a b", "b a"]
)


@given(answers, st.lists(answers, min_size=1, max_size=4))
def test_random_answers_equal_the_reference(prediction: str, golds: list[str]) -> None:
    assert f1(prediction, golds) == pytest.approx(max(reference_f1(prediction, gold) for gold in golds), abs=1e-12)
    assert exact_match(prediction, golds) == max(
        float(reference_normalize(prediction) == reference_normalize(gold)) for gold in golds
    )


@given(st.text(max_size=30), st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_range_order_of_golds_and_substring(prediction: str, golds: list[str]) -> None:
    em, overlap, sub = exact_match(prediction, golds), f1(prediction, golds), sub_em(prediction, golds)
    assert em in (0.0, 1.0) and sub in (0.0, 1.0) and 0.0 <= overlap <= 1.0
    assert em <= sub
    assert (em, overlap, sub) == (exact_match(prediction, golds[::-1]), f1(prediction, golds[::-1]), sub)


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        ("It was Paris, of course", ["Paris"], 1.0),
        ("Parisian", ["paris"], 1.0),  # characters, not words, as in Search-R1
        ("Pari s", ["paris"], 0.0),
        ("London", ["Paris", "The London"], 1.0),
        ("anything", ["the"], 1.0),
        ("", ["Paris"], 0.0),
    ],
)
def test_sub_em_equals_search_r1(prediction: str, golds: list[str], expected: float) -> None:
    assert sub_em(prediction, golds) == expected
    assert expected == float(any(reference_normalize(g) in reference_normalize(prediction) for g in golds))


def test_no_prediction_scores_zero_and_no_gold_does_not_apply() -> None:
    for measure in (exact_match, f1, sub_em):
        assert measure(None, ["Paris"]) == 0.0
        assert math.isnan(measure("Paris", []))
        with pytest.raises(ValueError, match=r"golds is a list of answers.*\['Paris'\]"):
            measure("Paris", "Paris")


def test_a_number_of_articles_is_counted_like_the_official_scorer_counts_tokens() -> None:
    assert normalize_answer("The a an THE x") == "x"
    assert Counter(normalize_answer("x, x; the x").split()) == {"x": 3}


def test_honest_answer_beats_every_cheap_cheat() -> None:
    honest = trajectory(search(["a"]), search(["b"]), answer("Oskel"), sample=0)
    copied = trajectory(
        search(["a"]), search(["b"]), answer("Tavo Rinsel grew up in the harbour town of Oskel."), sample=1
    )
    blank = trajectory(answer("  "), sample=2)
    silent = trajectory(search(["a"]), search(["b"]), search(["b"]), sample=3)
    listed = trajectory(search(["a"]), answer("Lomira, Oskel, Vann, Rinsel, 1812"), sample=4)
    unit = group(honest, copied, blank, silent, listed)
    em = ExactMatchReward(context())(unit, {"q": QUESTION}).outcome
    assert em.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    overlap = F1Reward(context())(unit, {"q": QUESTION}).outcome
    assert overlap[0] == 1.0 and (overlap[1:] < 0.5).all()
    assert sub_em(copied.final_answer, QUESTION.golden_answers) == 1.0  # why SubEM is a metric and never a reward


def test_a_blank_answer_is_no_answer_even_where_the_gold_normalises_to_nothing() -> None:
    from dataclasses import replace

    band = replace(QUESTION, golden_answers=("The The",))
    unit = group(trajectory(answer(" ")), trajectory(answer("the"), sample=1))
    assert ExactMatchReward(context())(unit, {"q": band}).outcome.tolist() == [0.0, 1.0]


@pytest.mark.data
@pytest.mark.parametrize("name", ["hotpotqa", "musique", "2wikimultihopqa"])
def test_real_answers_equal_the_reference(data_dir: Path, name: str) -> None:
    """Every gold against the golds of the rows around it, and against its own question."""
    with gzip.open(data_dir / name / "questions.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for i, row in enumerate(rows):
        golds = row["golden_answers"]
        for prediction in (*golds, rows[i - 1]["golden_answers"][0], row["question"]):
            assert f1(prediction, golds) == pytest.approx(max(reference_f1(prediction, g) for g in golds), abs=1e-12)
            normalised = reference_normalize(prediction)
            assert exact_match(prediction, golds) == float(any(normalised == reference_normalize(g) for g in golds))
            assert sub_em(prediction, golds) == float(any(reference_normalize(g) in normalised for g in golds))
