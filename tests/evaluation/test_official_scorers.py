"""EM, F1 and the support and joint figures equal an independent reading of the official scorers, on 10,000 cases."""

import collections
import random
import re
import string

import pytest

from envs.question import Question
from evaluation.metrics import episode_figures
from evaluation.support_figures import over_citation, support_figures
from rewards.answer import answer_overlap, exact_match, f1
from rewards.citation import Citations
from tests.evaluation.episodes import QUESTION, answer_turn, search_turn, trajectory


def squad_normalize(s):
    """As `evaluate-v1.1.py` writes it, step by step."""

    def remove_articles(text):
        return re.sub(r"\b(a|an|the)\b", " ", text)

    def white_space_fix(text):
        return " ".join(text.split())

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return white_space_fix(remove_articles(remove_punc(s.lower())))


def hotpot_f1(prediction, ground_truth):
    """`f1_score` of `hotpot_evaluate_v1.py`: F1, precision and recall."""
    normalized_prediction = squad_normalize(prediction)
    normalized_ground_truth = squad_normalize(ground_truth)
    zero_metric = (0, 0, 0)
    closed = ["yes", "no", "noanswer"]
    if normalized_prediction in closed and normalized_prediction != normalized_ground_truth:
        return zero_metric
    if normalized_ground_truth in closed and normalized_prediction != normalized_ground_truth:
        return zero_metric
    prediction_tokens = normalized_prediction.split()
    ground_truth_tokens = normalized_ground_truth.split()
    common = collections.Counter(prediction_tokens) & collections.Counter(ground_truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return zero_metric
    precision = 1.0 * num_same / len(prediction_tokens)
    recall = 1.0 * num_same / len(ground_truth_tokens)
    return (2 * precision * recall) / (precision + recall), precision, recall


def hotpot_sp(prediction, gold):
    """`update_sp`: exact match, precision, recall and F1 of the supports named."""
    tp = fp = fn = 0
    for fact in set(prediction):
        if fact in gold:
            tp += 1
        else:
            fp += 1
    for fact in set(gold):
        if fact not in prediction:
            fn += 1
    prec = 1.0 * tp / (tp + fp) if tp + fp > 0 else 0.0
    recall = 1.0 * tp / (tp + fn) if tp + fn > 0 else 0.0
    sp_f1 = 2 * prec * recall / (prec + recall) if prec + recall > 0 else 0.0
    return 1.0 if fp + fn == 0 else 0.0, prec, recall, sp_f1


WORDS = (
    *("the", "The", "a", "an", "A", "yes", "no", "noanswer", "Yes.", "No!", "York", "New", "new-york", "U.S.", "US"),
    *("1,000", "1000", "1999", "O'Brien", "Beyoncé", "BEYONCÉ", "“Heroes”", '"Heroes"', "–", "-", "…", "東京", "ß"),
    *("theatre", "and", "&", "\u00a0", "\t", "İstanbul", "ﬁn", "a.", "(the)", "no answer", "caf\u0065\u0301", ""),
)
HARD = ("", " ", "the", "yes", "no", "noanswer", "YES", "yes no", "a the an", "\n", "!?", "the the", "a–b", "–b")


def cases(count: int):
    rng = random.Random(20180928)

    def text() -> str:
        if rng.random() < 0.1:
            return rng.choice(HARD)
        return rng.choice((" ", "  ", " ", "-", ", ")).join(rng.choices(WORDS, k=rng.randint(1, 5)))

    for _ in range(count):
        gold = text()
        words = gold.split()
        rng.shuffle(words)
        near = rng.choice((gold, gold.upper(), f"the {gold}.", " ".join(words), f"{gold} {text()}", text(), text()))
        yield near, [gold, *(text() for _ in range(rng.randint(0, 3)))]


def test_ten_thousand_answers_score_as_the_official_scorer_scores_them() -> None:
    right = partly = 0
    for prediction, golds in cases(10_000):
        em = max(float(squad_normalize(prediction) == squad_normalize(gold)) for gold in golds)
        best = max(hotpot_f1(prediction, gold) for gold in golds)
        assert exact_match(prediction, golds) == em, (prediction, golds)
        assert f1(prediction, golds) == best[0], (prediction, golds)
        assert tuple(answer_overlap(prediction, golds)) == best, (prediction, golds)
        right += em == 1.0
        partly += 0.0 < best[0] < 1.0
    assert right > 1000 and partly > 1000, "cases that are all wrong or all right would show nothing"


def test_supports_and_joint_figures_are_hotpotqas() -> None:
    rng = random.Random(7)
    pages = [f"p{i}" for i in range(6)]
    for prediction, golds in cases(2000):
        supports = rng.sample(pages, rng.randint(1, 4))
        cited = rng.sample(pages, rng.randint(0, 5))
        unresolved = tuple(range(90, 90 + rng.randint(0, 1)))
        em, precision, recall, sp_f1 = hotpot_sp([*cited, *unresolved], supports)
        answer_f1, answer_precision, answer_recall = max(hotpot_f1(prediction, gold) for gold in golds)
        joint_p, joint_r = answer_precision * precision, answer_recall * recall
        joint_f1 = 2 * joint_p * joint_r / (joint_p + joint_r) if joint_p + joint_r > 0 else 0.0
        answer_em = max(float(squad_normalize(prediction) == squad_normalize(gold)) for gold in golds)
        found = support_figures(Citations(passage_ids=tuple(cited), unresolved=unresolved), supports, prediction, golds)
        assert tuple(found) == pytest.approx((em, sp_f1, answer_em * em, joint_f1), abs=1e-12)
        assert answer_f1 == f1(prediction, golds)


def test_over_citation_is_what_goes_beyond_the_supports() -> None:
    assert over_citation(Citations(passage_ids=("a", "b")), ["a", "b"]) == 0.0
    assert over_citation(Citations(passage_ids=("a", "b", "c"), unresolved=(9,)), ["a", "b"]) == 0.5
    assert over_citation(Citations(), ["a"]) == 0.0


def test_an_episodes_figures_come_from_what_its_answer_cites() -> None:
    stuffed = trajectory(
        search_turn("Oslo", [(1, "p1"), (2, "p2"), (3, "p3")]), answer_turn("Harald V of Norway", [1, 2, 3, 8])
    )
    figures = episode_figures(stuffed, QUESTION)
    assert figures["support_em"] == 0.0 and figures["support_f1"] == pytest.approx(2 / 3)
    assert figures["over_citation"] == 0.5 and figures["citation_precision"] == 0.5
    f1_, precision, recall = hotpot_f1("Harald V of Norway", "Harald V")
    assert figures["joint_f1"] == pytest.approx(2 * (precision / 2) * recall / (precision / 2 + recall))
    assert figures["f1"] == f1_
    unannotated = Question(id="q1", text="?", golden_answers=("Harald",))
    assert str(episode_figures(stuffed, unannotated)["joint_f1"]) == "nan"
