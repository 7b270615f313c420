"""Differences between runs: what is tested is tested well, corrected together, and not ranked where it must not be."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.comparison import Comparison, compare_runs, refusal
from evaluation.comparison_charts import BETTER, UNDECIDED, difference_chart
from evaluation.comparison_tables import beats, differences_table, figures_table, needed_table, ranking_table
from evaluation.comparison_verdict import verdict_lines
from evaluation.evaluation_suite import read_suites
from evaluation.mcnemar import mcnemar_exact
from evaluation.paired import holm, paired_randomisation
from evaluation.power import questions_needed
from evaluation.regressions import changed_questions
from evaluation.report_parts import Measure
from evaluation.run_difference import SUITE_MEAN
from tests.evaluation.evaluations import block, record, write

RNG = np.random.default_rng(0)
WEAK = (RNG.random(200) < 0.5).astype(float).tolist()
STRONG = [max(value, float(RNG.random() < 0.3)) for value in WEAK]


def _compare(tmp_path: Path, *columns: list[float], **options: object) -> Comparison:
    paths = [write(tmp_path / name, record(em)) for name, em in zip("abcd", columns, strict=False)]
    return compare_runs(read_suites(paths), **options)  # type: ignore[arg-type]


def test_the_tests_are_those_of_the_functions(tmp_path: Path) -> None:
    f1 = RNG.random((2, 200))
    paths = [
        write(tmp_path / name, {**(made := record(em)), "per_question": {**made["per_question"], "f1": own.tolist()}})
        for name, em, own in (("a", WEAK, f1[0]), ("b", STRONG, f1[1]))
    ]
    comparison = compare_runs(read_suites(paths))
    em = comparison.found("em", "questions.test", "a", "b")
    shares = comparison.found("f1", "questions.test", "a", "b")
    assert em is not None
    assert shares is not None
    assert em.difference == pytest.approx(np.mean(STRONG) - np.mean(WEAK))
    assert em.low < em.difference < em.high
    assert em.p == em.p_mcnemar == mcnemar_exact(WEAK, STRONG).p
    assert (em.first_only, em.second_only) == (0, int(sum(STRONG) - sum(WEAK)))
    assert shares.p_mcnemar is None
    assert shares.p == pytest.approx(paired_randomisation(f1[1], f1[0]), abs=0.02)
    assert [em.p_holm, shares.p_holm] == holm([em.p, shares.p or 0])
    assert em.is_significant
    assert beats(comparison, "b", "a")
    assert not beats(comparison, "a", "b")


def test_a_better_run_is_called_better_and_the_mark_stands_beside_it(tmp_path: Path) -> None:
    comparison = _compare(tmp_path, WEAK, STRONG)
    assert comparison.is_ranked
    assert verdict_lines(comparison)[0].startswith("b is better than a: Exact match, b minus a, is +0.1")
    row = next(row for row in differences_table(comparison).rows if "Exact match" in row)
    marked = next(cell for cell in row if isinstance(cell, Measure))
    assert (marked.mark, marked.tone, marked.signed) == ("✱", "good", True)
    assert [row[0] for row in ranking_table(comparison).rows] == ["b", "a"]
    worse = _compare(tmp_path / "other", STRONG, WEAK)
    assert verdict_lines(worse)[0].startswith("a is better than b")
    assert "tone='bad'" in repr(figures_table(worse).rows[0][-1])


def test_no_difference_is_told_with_what_it_would_take(tmp_path: Path) -> None:
    near = list(WEAK)
    near[0] = 1 - near[0]
    near[1] = 1 - near[1]
    near[2] = 1 - near[2]
    comparison = _compare(tmp_path, WEAK, near)
    line = verdict_lines(comparison)[0]
    assert line.startswith("No significant difference")
    assert "one as large as this needs" in line
    table = needed_table(comparison)
    assert table is not None
    assert table.rows[0][1] == 200


def test_runs_that_differ_in_what_decides_are_not_ranked(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a", record(WEAK)),
        write(
            tmp_path / "b", record(STRONG, comparability=block(top_k=5, decoding={"temperature": 1.0, "samples": 1}))
        ),
    ]
    comparison = compare_runs(read_suites(paths))
    assert not comparison.is_ranked
    message = refusal(comparison)
    assert message is not None
    assert "top_k: a 3, b 5" in message
    assert "decoding.temperature: a 0.0, b 1.0" in message
    assert "--allow top_k --allow decoding" in message
    assert "Not ranked" in verdict_lines(comparison)[0]
    assert not any("better than" in line for line in verdict_lines(comparison))
    assert "✱" not in repr(differences_table(comparison).rows), "nothing is marked"
    assert ranking_table(comparison).columns[-1] != "significantly better than"

    allowed = compare_runs(read_suites(paths), allow=["top_k", "decoding.temperature"])
    assert allowed.is_ranked
    assert refusal(allowed) is None
    assert any(
        line.startswith("Allowed, and part of the difference: top_k: a 3, b 5") for line in verdict_lines(allowed)
    )


def test_circumstances_are_told_and_forbid_only_where_asked(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a", record(WEAK)),
        write(tmp_path / "b", record(STRONG, comparability=block(commit="other"))),
    ]
    assert any("also differ in commit" in line for line in verdict_lines(compare_runs(read_suites(paths))))
    assert refusal(compare_runs(read_suites(paths))) is None
    assert "commit: a abc, b other" in (refusal(compare_runs(read_suites(paths), strict=True)) or "")


def test_three_runs_are_compared_in_pairs_and_corrected_together(tmp_path: Path) -> None:
    comparison = _compare(tmp_path, WEAK, STRONG, [1.0] * 200)
    tested = [one for one in comparison.differences if one.p is not None]
    assert len(tested) == 3 * 2
    assert [one.p_holm for one in tested] == holm([one.p or 0.0 for one in tested])
    rows = {str(row[0]): row[-1] for row in ranking_table(comparison).rows}
    assert list(rows) == ["c", "b", "a"]
    assert rows == {"c": "b, a", "b": "a", "a": "–"}


def test_a_suite_has_a_mean_over_its_sets_of_equal_weight(tmp_path: Path) -> None:
    for run, columns in (("a", (WEAK, [0.0] * 10)), ("b", (STRONG, [1.0] * 5 + [0.0] * 5))):
        for name, em in zip(("one", "two"), columns, strict=True):
            write(tmp_path / run / name, record(em))
    comparison = compare_runs(read_suites([tmp_path / "a", tmp_path / "b"]), measures=["em"])
    mean = comparison.found("em", SUITE_MEAN, "a", "b")
    assert mean is not None
    assert mean.difference == pytest.approx((np.mean(STRONG) - np.mean(WEAK) + 0.5) / 2)
    assert mean.low < mean.difference < mean.high
    assert mean.n == 210
    assert mean.p is not None
    assert mean.p < 0.01
    assert len([one for one in comparison.differences if one.p is not None]) == 3, "two sets and their mean"
    assert comparison.headline_set == SUITE_MEAN


def test_sets_of_one_size_are_drawn_and_swapped_for_themselves(tmp_path: Path) -> None:
    """Their mean has half the variance of each; under one seed they would move together, and its p be that of one."""
    shares = RNG.random((2, 40)).round(2)
    for run, own in (("a", shares[0]), ("b", shares[1] + 0.1)):
        for name in ("one", "two"):
            made = record([0.0] * 40)
            made["per_question"]["f1"] = own.tolist()
            write(tmp_path / run / name, made)
    comparison = compare_runs(read_suites([tmp_path / "a", tmp_path / "b"]), measures=["f1"])
    one, mean = (comparison.found("f1", name, "a", "b") for name in ("one", SUITE_MEAN))
    assert one is not None
    assert mean is not None
    assert one.p is not None
    assert mean.p is not None
    assert (mean.high - mean.low) / (one.high - one.low) == pytest.approx(np.sqrt(0.5), abs=0.1)
    assert mean.p < one.p / 1.5


def test_the_means_of_a_suite_have_intervals(tmp_path: Path) -> None:
    for run, em in (("a", WEAK), ("b", STRONG)):
        for name in ("one", "two"):
            write(tmp_path / run / name, record(em))
    rows = ranking_table(compare_runs(read_suites([tmp_path / "a", tmp_path / "b"]))).rows
    cell = rows[0][2]
    assert isinstance(cell, Measure)
    assert cell.low is not None
    assert cell.high is not None
    assert cell.low < np.mean(STRONG) < cell.high
    assert cell.high - cell.low < 0.14, "over 400 questions, not over 200"


def test_of_costs_less_is_cheaper_and_of_faults_less_is_better(tmp_path: Path) -> None:
    more, fewer = [3.0] * 60 + [2.0] * 140, [1.0] * 200
    made = [
        record(WEAK, searches_per_question=own, over_citation=(np.asarray(own) / 4).tolist()) for own in (more, fewer)
    ]
    paths = [write(tmp_path / name, one) for name, one in zip("ab", made, strict=True)]
    cheaper = compare_runs(read_suites(paths), measures=["searches_per_question", "over_citation"])
    assert verdict_lines(cheaper)[0].startswith("b is cheaper than a: Searches per question")
    assert [row[0] for row in ranking_table(cheaper).rows] == ["b", "a"]
    assert ranking_table(cheaper).columns[-1] == "significantly cheaper than"
    tones = [next(cell for cell in row if isinstance(cell, Measure)).tone for row in differences_table(cheaper).rows]
    assert tones == ["", "good"]
    chart = difference_chart(cheaper.differences[2:], "x", several_pairs=False, ranked=True)
    assert chart is not None
    colours = {trace["y"][0]: trace["marker"]["color"] for trace in chart.figure["data"]}
    assert colours == {"Searches per question": UNDECIDED, "Over-citation": BETTER}
    changes = changed_questions(*read_suites(list(reversed(paths))), "over_citation")
    assert len(changes) == 200
    assert all(change.gain < 0 for change in changes)
    assert changes[0].values == (0.25, 0.75), "the largest loss first"


def test_the_questions_of_a_given_difference_are_told(tmp_path: Path) -> None:
    shares = (np.asarray(WEAK) * 0.9).tolist()
    made = [record(WEAK), record(STRONG)]
    made[1]["per_question"]["f1"] = shares
    paths = [write(tmp_path / name, one) for name, one in zip("ab", made, strict=True)]
    comparison = compare_runs(read_suites(paths), points=[0.03, 0.05])
    table = needed_table(comparison)
    assert table is not None
    assert list(table.columns[-2:]) == ["for 3 points", "for 5 points"]
    em, f1 = comparison.differences[:2]
    assert f1.spread == pytest.approx(0.01 * np.mean(WEAK))
    assert f1.spread < 0.05, "shares may differ by more than their mean square"
    assert table.rows[0][-2] == questions_needed(0.03, em.spread or 0)
    assert table.rows[1][-1] == questions_needed(0.05, f1.spread)
    with pytest.raises(ValueError, match=r"differences are 2; each lies between 0 and 1 \(0\.02 is 2 points\)"):
        compare_runs(read_suites(paths), points=[2])


def test_a_measure_that_is_named_twice_is_tested_once(tmp_path: Path) -> None:
    comparison = _compare(tmp_path, WEAK, STRONG, measures=["em", "em"])
    assert comparison.measures == ("em",)
    assert [one.p_holm == one.p for one in comparison.differences if one.p is not None] == [True]


def test_equal_questions_with_other_golden_answers_are_not_ranked(tmp_path: Path) -> None:
    made = [record(WEAK), record(STRONG)]
    made[1]["per_question"]["golden_answers"][3] = ["another"]
    paths = [write(tmp_path / name, one) for name, one in zip("ab", made, strict=True)]
    comparison = compare_runs(read_suites(paths), common_only=True)
    assert "golden_answers: a as they are, b other ones for 1 questions" in (refusal(comparison) or "")
    assert compare_runs(read_suites(paths), allow=["golden_answers"]).is_ranked


def test_fields_of_a_suite_name_the_set_that_differs(tmp_path: Path) -> None:
    for run, top_k in (("a", 3), ("b", 5)):
        write(tmp_path / run / "one", record([1.0, 0.0]))
        write(tmp_path / run / "two", record([1.0, 0.0], comparability=block(top_k=top_k)))
    message = refusal(compare_runs(read_suites([tmp_path / "a", tmp_path / "b"])))
    assert message is not None
    assert "top_k (two): a 3, b 5" in message
    assert "--allow top_k" in message


def test_what_does_not_apply_to_both_leaves_the_difference(tmp_path: Path) -> None:
    made = [
        record([1.0, 0.0, 1.0, 0.0], support_recall=values) for values in ([1.0, None, 0.5, 0.0], [1.0, 1.0, None, 0.5])
    ]
    comparison = compare_runs(read_suites([write(tmp_path / n, m) for n, m in zip("ab", made, strict=True)]))
    one = comparison.found("support_recall", "questions.test", "a", "b")
    assert one is not None
    assert (one.n, one.difference, one.p) == (2, 0.25, None)


def test_common_questions_alone_do_not_forbid_a_ranking_by_the_files_hash(tmp_path: Path) -> None:
    other = block(
        questions={"name": "x", "sha256": "5" * 64},
        question_limit=10,
        question_set={"asked": {"number": 2, "sha256": "6" * 64}, "budget": 2, "budget_seed": 0},
    )
    paths = [
        write(tmp_path / "a", record([1.0, 0.0, 1.0])),
        write(tmp_path / "b", record([1.0, 1.0], comparability=other)),
    ]
    comparison = compare_runs(read_suites(paths), common_only=True)
    assert comparison.is_ranked
    assert any("1 of the 3 questions of a" in line for line in verdict_lines(comparison))


def test_a_single_run_is_no_comparison(tmp_path: Path) -> None:
    comparison = _compare(tmp_path, WEAK)
    assert comparison.differences == ()
    assert not comparison.is_ranked
    assert refusal(comparison) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": ["bleu"]}, "no measure bleu in every run; they have em, f1"),
        ({"measures": []}, "no measure named"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"power": 1.0}, "power is 1.0"),
        ({"allow": ["nothing"]}, "--allow names 'nothing'"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _compare(tmp_path, [1.0, 0.0], [0.0, 1.0], **options)


def test_a_run_that_is_marked_invalid_is_not_ranked(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a", record(WEAK)), write(tmp_path / "b", {**record(STRONG), "valid": False})]
    comparison = compare_runs(read_suites(paths))
    assert not comparison.is_ranked
    assert "valid: a true, b false" in (refusal(comparison) or "")
    assert compare_runs(read_suites(paths), allow=["valid"]).is_ranked
