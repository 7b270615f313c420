"""Several retrievers on the same questions: figures side by side, differences beside what chance would make."""

import io
import json

import pytest
from rich.console import Console

from envs.question import Question
from evaluation.index_report import measure_retrievers
from evaluation.report import format_number
from evaluation.retrieval_comparison import compare_retrievers
from tests.retrieval.scripted_retriever import ScriptedRetriever

QUESTIONS = [Question(id=f"q{i}", text=f"q{i}", golden_answers=("of a",), supporting_ids=("a", "b")) for i in range(30)]
GOOD = {f"q{i}": [("a", 3.0), ("b", 2.0), ("c", 1.0)] for i in range(30)}
LATE = {f"q{i}": [("c", 3.0), ("a", 2.0), ("b", 1.0)] for i in range(30)}


def retrievers() -> dict[str, ScriptedRetriever]:
    return {"good": ScriptedRetriever(GOOD), "late": ScriptedRetriever(LATE), "nothing": ScriptedRetriever({})}


def printed(report) -> str:
    console = Console(file=io.StringIO(), width=200)
    report.print(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_pair_is_tested_by_recall_at_each_depth_and_ndcg() -> None:
    comparison = compare_retrievers(retrievers(), QUESTIONS, ks=(2, 3))
    summaries = {name: quality.summary for name, quality in comparison.qualities.items()}
    assert [summaries[name]["recall_all@2"] for name in ("good", "late", "nothing")] == [1.0, 0.0, 0.0]
    tests = {(test.first, test.second, test.measure): test for test in comparison.tests}
    assert len(tests) == 3 * 3
    assert tests["good", "late", "recall_all@2"].p_holm < 0.01 and tests["good", "late", "recall_all@2"].difference == 1
    assert tests["good", "late", "recall_all@3"].p == 1.0, "both have found everything by then"
    assert tests["late", "nothing", "ndcg@10"].difference == pytest.approx(summaries["late"]["ndcg@10"])


def test_one_retriever_keeps_the_keys_of_its_summary() -> None:
    report = measure_retrievers({"good": ScriptedRetriever(GOOD)}, QUESTIONS, ks=(2,))
    assert report.figures["recall_all@2"] == 1.0 and report.figures["backend"] == "scripted"
    assert {"n", "ndcg@10_low", "mrr@10", "missing_supports", "missing_by_question", "index_hash"} <= set(
        report.figures
    )
    assert "indexes" not in report.figures and "95 % interval" in printed(report)


def test_several_stand_in_one_table_and_one_json() -> None:
    report = measure_retrievers(retrievers(), QUESTIONS, ks=(2,), coverage=True)
    figures = json.loads(json.dumps(report.figures, allow_nan=False))
    assert [entry["index"] for entry in figures["indexes"]] == ["good", "late", "nothing"]
    assert figures["same_corpus"] is True and figures["n"] == 30 and len(figures["comparisons"]) == 6
    assert set(figures["comparisons"][0]) == {
        *("first", "second", "measure", "difference", "low", "high", "p", "p_holm")
    }
    assert figures["indexes"][1]["coverage_answers"] == 1.0, "the passage a says so"
    shown = printed(report)
    assert all(text in shown for text in ("good minus late", "1.000", "p (Holm)", "every support", "n = 30 questions"))


def test_a_name_with_brackets_is_shown_as_it_is() -> None:
    hybrid = "{hybrid: [/indexes/a, /indexes/b]}"
    both = {hybrid: ScriptedRetriever(GOOD), "[bold]late": ScriptedRetriever(LATE)}
    shown = printed(measure_retrievers(both, QUESTIONS, ks=(2,)))
    assert hybrid in shown and "[bold]late" in shown, "rich takes brackets for markup"


NAMES = (
    "/indexes/of/a/long/path/" + "a" * 60,
    "indexes/sf-rank_bm25",
    "{hybrid: [/indexes/of/a/long/path/one, /indexes/of/a/long/path/two]}",
    "http://127.0.0.1:8000",
    "indexes/e",
)


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_nothing_is_cut_on_a_narrow_terminal(count: int, width: int) -> None:
    named = {name: ScriptedRetriever(LATE if place % 2 else GOOD) for place, name in enumerate(NAMES[:count])}
    console = Console(file=io.StringIO(), width=width)
    report = measure_retrievers(named, QUESTIONS, ks=(2, 3), coverage=True)
    report.print(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    lines = [line.rstrip() for line in shown.splitlines() if not line.startswith("n = ")]
    assert max(map(len, lines)) <= width
    for figure in ("recall_all@2", "recall_mean@2", "recall_all@3", "recall_mean@3", "ndcg@10", "mrr@10"):
        assert any(figure in line.split()[:2] for line in lines), "a figure is a row"
    headings = shown.split("Paired", 1)[0]
    for name in named if count > 1 else ():
        assert all(piece in headings for piece in (name[:4], name[-1:])), "every retriever heads a column"
    for first, second in ((test.first, test.second) for test in report.comparison.tests):
        assert "".join(f"{first} minus {second}".split()) in "".join(shown.split())
    if width >= 80 and count > 1:
        assert {"1.000", "[1.000,1.000]", "0.693", "[0.693,0.693]"} <= set(headings.split())


def test_two_retrievers_stand_beside_each_other_with_their_intervals() -> None:
    console = Console(file=io.StringIO(), width=80)
    named = {"indexes/bm25": ScriptedRetriever(GOOD), "indexes/dense": ScriptedRetriever(LATE)}
    measure_retrievers(named, QUESTIONS, ks=(2,)).print(console)
    rows = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert ["figure", "indexes/bm25", "indexes/dense"] in rows
    assert ["recall_all@2", "1.000", "[1.000,1.000]", "0.000", "[0.000,0.000]"] in rows


def test_a_difference_of_nothing_has_no_sign() -> None:
    assert format_number(-0.0) == format_number(-0.0004) == "0.000"
    assert format_number(-0.0006) == "-0.001"


def test_progress_runs_over_all_retrievers() -> None:
    seen: list[tuple[int, int]] = []
    compare_retrievers(retrievers(), QUESTIONS, ks=(2,), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(30, 90), (60, 90), (90, 90)]


def test_different_corpora_are_said_to_be_different() -> None:
    other = ScriptedRetriever(LATE, corpus_hash="1" * 64)
    report = measure_retrievers({"good": ScriptedRetriever(GOOD), "other": other}, QUESTIONS, ks=(2,))
    assert report.figures["same_corpus"] is False
    assert any("different corpora" in warning for warning in report.warnings)


def test_what_the_corpus_lacks_is_a_warning_once() -> None:
    lost = Question(id="lost", text="lost", golden_answers=("x",), supporting_ids=("zebra",))
    report = measure_retrievers(retrievers(), [*QUESTIONS, lost], ks=(2,))
    [warning] = report.warnings
    assert "1 of 61 supports are not in the corpus" in warning
    assert report.figures["indexes"][2]["missing_by_question"] == {"lost": ["zebra"]}


def test_coverage_needs_the_corpus_here() -> None:
    with pytest.raises(ValueError, match="the corpus is on a server"):
        measure_retrievers({"far": ScriptedRetriever(GOOD, has_corpus=False)}, QUESTIONS, ks=(2,), coverage=True)
    with pytest.raises(ValueError, match="no retriever"):
        compare_retrievers({}, QUESTIONS)
