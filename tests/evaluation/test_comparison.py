"""Differences between runs: what is tested is tested well, corrected together, and not ranked where it must not be."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.comparison import Comparison, compare_runs, refusal
from evaluation.comparison_tables import beats, differences_table, figures_table, needed_table, ranking_table
from evaluation.comparison_verdict import verdict_lines
from evaluation.evaluation_suite import read_suites
from evaluation.mcnemar import mcnemar_exact
from evaluation.paired import holm, paired_randomisation
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
    other = block(questions={"name": "x", "sha256": "5" * 64}, question_limit=10)
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
