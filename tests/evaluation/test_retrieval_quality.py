import json
from pathlib import Path

import pytest

from envs.datasets import read_questions
from envs.question import Hop, Question
from evaluation.retrieval_quality import evaluate_index, select_questions
from retrieval.index import Index, build_index, open_index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("quality")
    texts = {"ada": "Ada lives in Rome", "rome": "Rome lies on the Tiber", "tiber": "The Tiber is long", "x": "Nothing"}
    rows = "".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items())
    (folder / "corpus.jsonl").write_text(rows)
    build_index(folder / "corpus.jsonl", folder / "index")
    return open_index(folder / "index")


CHAIN = Question(
    id="q1",
    text="On which river lies the home of Ada?",
    golden_answers=("Tiber",),
    supporting_ids=("ada", "rome"),
    hops=(
        Hop(question="Where does Ada live?", answers=("Rome",), supporting_id="ada"),
        Hop(question="On which river lies #1?", answers=("Tiber",), supporting_id="rome", depends_on=(0,)),
        Hop(question="How long is #2?", answers=("405 km",), supporting_id="gone", depends_on=(1,)),
        Hop(question="Which day?", answers=("Monday",)),
    ),
)
PLAIN = Question(id="q2", text="Tiber", golden_answers=("yes",), supporting_ids=("tiber",), selection="complete")
BARE = Question(id="q3", text="Nothing known", golden_answers=("no",))


def test_one_search_per_question_counts_its_supports(index: Index) -> None:
    quality = evaluate_index(index, [CHAIN, PLAIN, BARE], ks=(1, 2))
    assert quality.question_ids == ("q1", "q2")
    summary = quality.summary
    assert (summary["n"], summary["not_annotated"], summary["num_searches"]) == (2, 1, 2)
    assert quality.per_question["recall_mean@1"].tolist() == [0.5, 1.0]
    assert quality.per_question["recall_all@2"].tolist() == [1.0, 1.0]
    assert summary["recall_all@1"] == 0.5 and summary["recall_mean@1"] == 0.75
    for name in ("recall_all@1", "recall_mean@2", "ndcg@10", "mrr@10"):
        assert summary[f"{name}_low"] <= summary[name] <= summary[f"{name}_high"]


def test_stepwise_fills_earlier_gold_answers_in(index: Index) -> None:
    asked: list[str] = []

    class Listening:
        num_passages = index.num_passages

        def search(self, queries: list[str], k: int) -> list:
            asked.extend(queries)
            return index.search(queries, k)

        def get(self, passage_id: str) -> object:
            return index.get(passage_id)

    summary = evaluate_index(Listening(), [CHAIN, PLAIN], ks=(1,), stepwise=True).summary  # type: ignore[arg-type]
    assert asked == ["Where does Ada live?", "On which river lies Rome?", "How long is Tiber?"]
    assert (summary["n"], summary["not_annotated"], summary["num_searches"]) == (1, 1, 3)
    assert summary["hop_recall@1"] == summary["recall_mean@1"] == pytest.approx(2 / 3)
    assert summary["recall_all@1"] == 0.0, "a support that is not in the corpus counts as not found"


def test_micro_and_per_question_recall_differ_where_lengths_do(index: Index) -> None:
    one_hop = Question(
        id="q4", text="x", golden_answers=("a",), hops=(Hop(question="Tiber", answers=("a",), supporting_id="tiber"),)
    )
    summary = evaluate_index(index, [CHAIN, one_hop], ks=(1,), stepwise=True).summary
    assert summary["hop_recall@1"] == pytest.approx(3 / 4) and summary["recall_mean@1"] == pytest.approx(5 / 6)
    assert summary["hop_recall@1_low"] <= 3 / 4 <= summary["hop_recall@1_high"]


def test_questions_are_selected_by_field() -> None:
    assert select_questions([CHAIN, PLAIN], {"selection": "complete"}) == [PLAIN]
    with pytest.raises(ValueError, match="cannot be selected by 'color'; choose one of selection, kind"):
        select_questions([CHAIN], {"color": "red"})
    with pytest.raises(ValueError, match="no question has selection=all; the values are None, complete"):
        select_questions([CHAIN, PLAIN], {"selection": "all"})


def test_what_cannot_be_measured_says_why(index: Index) -> None:
    with pytest.raises(ValueError, match="none of the 1 questions has supporting_ids"):
        evaluate_index(index, [BARE])
    with pytest.raises(ValueError, match="none of the 1 questions has hops with answers and supports"):
        evaluate_index(index, [PLAIN], stepwise=True)
    with pytest.raises(ValueError, match="k is 5, but the corpus has 4 passages"):
        evaluate_index(index, [PLAIN], ks=(5,))
    with pytest.raises(ValueError, match="K is 0"):
        evaluate_index(index, [PLAIN], ks=(0, 5))
    with pytest.raises(ValueError, match="no K was given"):
        evaluate_index(index, [PLAIN], ks=())


# The table of the data's README: every support found (complete rows; scifact has no selection), share found (all rows).
README = {
    "hotpotqa": ((0.484, 0.674), (0.745, 0.855)),
    "musique": ((0.084, 0.137), (0.436, 0.511)),
    "2wikimultihopqa": ((0.329, 0.400), (0.646, 0.692)),
    "scifact": ((0.726, 0.795), (0.745, 0.815)),
}


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(README))
def test_bm25_finds_what_the_data_says_it_finds(data_dir: Path, tmp_path: Path, name: str) -> None:
    build_index(data_dir / name / "corpus.jsonl.gz", tmp_path / "index")
    index = open_index(tmp_path / "index")
    questions = read_questions(data_dir / name / "questions.jsonl.gz")
    complete = [q for q in questions if q.selection == "complete"] if name != "scifact" else questions
    every = evaluate_index(index, complete).summary
    share = evaluate_index(index, questions).summary
    expected_every, expected_share = README[name]
    assert [every[f"recall_all@{k}"] for k in (5, 10)] == pytest.approx(expected_every, abs=0.005)
    assert [share[f"recall_mean@{k}"] for k in (5, 10)] == pytest.approx(expected_share, abs=0.005)
    if name == "musique":
        micro = evaluate_index(index, questions, stepwise=True).summary
        assert [micro[f"hop_recall@{k}"] for k in (5, 10)] == pytest.approx((0.837, 0.887), abs=0.005)
        hops = evaluate_index(index, complete, stepwise=True).summary
        assert [hops[f"hop_recall@{k}"] for k in (5, 10)] == pytest.approx((0.812, 0.879), abs=0.005)
        assert [hops[f"recall_mean@{k}"] for k in (5, 10)] == pytest.approx((0.824, 0.891), abs=0.005)
