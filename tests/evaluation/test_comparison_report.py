"""The page of a comparison: whole without a network, verdict on top, what got worse with both trajectories inside."""

import csv
import json
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from evaluation.breakdown import groups_of
from evaluation.comparison import Comparison, compare_runs
from evaluation.comparison_report import comparison_page, write_comparison
from evaluation.evaluation_suite import read_suites
from evaluation.metrics import evaluate_trajectories
from evaluation.regressions import changed_questions, regression_pairs
from evaluation.report import format_difference, render_html, write_columns
from evaluation.report_parts import Arm, Report
from evaluation.run_sections import run_sections
from evaluation.training_curve import training_arms
from evaluation.trajectory_store import TrajectoryWriter
from evaluation.viewer.runs import run_key
from tests.evaluation.episodes import QUESTION, answer_turn, good_trajectory, trajectory
from tests.evaluation.evaluations import block, record, write
from tests.evaluation.reports import NASTY
from tests.evaluation.test_report import Page

BEFORE = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
AFTER = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]


@pytest.fixture
def compared(tmp_path: Path) -> Comparison:
    paths = [
        write(tmp_path / "old", record(BEFORE), trajectories=True),
        write(tmp_path / "new", record(AFTER, comparability=block(model={"name": "b"})), trajectories=True),
    ]
    return compare_runs(read_suites(paths))


def test_page_json_and_csv_lie_side_by_side(tmp_path: Path, compared: Comparison) -> None:
    page = write_comparison(tmp_path / "report", compared)
    assert page.name == "report.html"
    figures = json.loads(page.with_suffix(".json").read_text())
    assert figures["ranked"] is True
    assert figures["runs"]["old"]["questions.test"]["em"] == pytest.approx(4 / 6)
    assert figures["differences"][0]["difference"] == pytest.approx(-1 / 6)
    assert figures["blocks"]["new"]["questions.test"]["top_k"] == 3
    with page.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert (rows[1]["question_id"], rows[1]["old: em"], rows[1]["new: em"], rows[1]["new: answers"]) == (
        *("q1", "1.0", "0.0", "wrong"),
    )
    assert rows[0]["num_hops"] == "2"


def test_what_a_reader_looks_for_is_on_the_page(compared: Comparison) -> None:
    page = Page(render_html(comparison_page(compared)))
    for text in (
        "new against old",
        "No significant difference: Exact match, new minus old, is −0.167",
        "p (McNemar)",
        "How many questions a difference needs",
        "By number of hops",
        "3 hops",
        "comparison",
        "How episodes ended",
        "new loses 2 questions to old and wins 1",
        "What is q1?",
        "em 1 → 0",
        "about q1",
        "closed_book",
        "what is compared",
        "Comparability",
    ):
        assert text in page.visible, text
    charts = json.loads(page.scripts[0])
    assert {"differences", "group-kind", "group-num_hops", "finish"} <= set(charts)


def test_the_page_is_self_contained_and_targets_exist(compared: Comparison) -> None:
    page = Page(render_html(comparison_page(compared)))
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            if name in attributes:
                assert (attributes[name] or "").startswith(("#", "data:,")), (tag, attributes)
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(set(ids)) == len(ids)
    assert {a["href"] for t, a in page.elements if t == "a" and a.get("href")} <= {f"#{i}" for i in ids}


def test_charts_are_valid_plotly(compared: Comparison) -> None:
    import plotly.graph_objects as go

    charts = [chart for section in comparison_page(compared).sections for chart in section.charts]
    assert len(charts) == 4
    for chart in charts:
        go.Figure(chart.figure)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    made = []
    for em in (BEFORE, AFTER):
        written = record(em, ids=[f"{NASTY}{i}" for i in range(6)], comparability=block(model={"name": NASTY}))
        columns = written["per_question"]
        columns |= {"question": [NASTY] * 6, "golden_answers": [[NASTY]] * 6, "kind": [NASTY] * 6}
        columns["answers"] = [["=cmd()|' /C calc'!A0"]] * 6
        made.append(written)
    paths = [write(tmp_path / name, m, trajectories=True) for name, m in zip(("a", "b"), made, strict=True)]
    comparison = compare_runs(read_suites(paths))
    page = Page(render_html(comparison_page(comparison)))
    assert len(page.scripts) == 3
    assert not any(tag == "img" for tag, _ in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert NASTY in page.visible
    written_csv = write_comparison(tmp_path / "report", comparison).with_suffix(".csv").read_text()
    assert "'=cmd()" in written_csv, "a spreadsheet takes no answer for a formula"


def test_regressions_come_worst_first_and_without_trajectories_too(tmp_path: Path) -> None:
    made = [record([1.0, 1.0, 0.0]), record([0.0, 0.0, 0.0])]
    for written, f1 in zip(made, ([1.0, 1.0, 0.5], [0.6, 0.0, 0.0]), strict=True):
        written["per_question"]["f1"] = f1
    paths = [write(tmp_path / "a", made[0]), write(tmp_path / "b", made[1], trajectories=True)]
    comparison = compare_runs(read_suites(paths))
    changes = changed_questions(comparison.runs[0], comparison.runs[1], "em")
    assert [change.question_id for change in changes] == ["q1", "q0"], "equal losses of EM: the larger loss of F1 first"
    page = Page(render_html(comparison_page(comparison)))
    assert "This run's trajectory is not beside its evaluation file." in page.visible


def test_regressions_link_into_the_viewer_where_it_is_named(tmp_path: Path, compared: Comparison) -> None:
    page = Page(render_html(comparison_page(compared, viewer="http://127.0.0.1:8700/")))
    links = [a["href"] or "" for t, a in page.elements if t == "a" and (a.get("href") or "").startswith("http")]
    assert len(links) == 2 * 3, "two questions got worse: each run's trajectory, and both side by side"
    keys = [run_key((tmp_path / name).resolve()) for name in ("old", "new")]
    assert links[0] == f"http://127.0.0.1:8700/compare?a={keys[0]}&b={keys[1]}&question=q1"
    assert links[1] == f"http://127.0.0.1:8700/run/{keys[0]}/trajectory?id=eval-q1-0"
    with pytest.raises(ValueError, match="the viewer's address is 'javascript:alert"):
        comparison_page(compared, viewer="javascript:alert(1)")


def test_of_several_samples_those_are_shown_that_differ(tmp_path: Path) -> None:
    paths = []
    for name, em, answers in (("a", 0.5, ["wrong", "gold"]), ("b", 0.0, ["wrong", "no"])):
        written = record([em], ids=["q0"])
        written["per_question"]["answers"] = [answers]
        paths.append(write(tmp_path / name, written))
        samples = [
            trajectory(answer_turn(answer), id=f"{name}-{i}", question_id="q0") for i, answer in enumerate(answers)
        ]
        with TrajectoryWriter(paths[-1] / "trajectories") as writer:
            writer.append(0, samples)
    runs = read_suites(paths)
    pair = regression_pairs(runs[0], runs[1], changed_questions(runs[0], runs[1], "em"), "em")[0]
    assert pair.first is not None
    assert pair.second is not None
    assert (pair.first.id, pair.first.em) == ("a-1", 1.0)
    assert (pair.second.id, pair.second.em) == ("b-0", 0.0)


def test_an_evaluations_own_report_is_not_written_over(tmp_path: Path, compared: Comparison) -> None:
    with pytest.raises(ValueError, match="holds an evaluation and its own report"):
        write_comparison(tmp_path / "old", compared)


def test_texts_in_tables_are_cut(tmp_path: Path) -> None:
    made = [record(em) for em in (BEFORE, AFTER)]
    for written in made:
        columns = written["per_question"]
        columns["answers"] = [["long " * 20_000]] * 6
        columns["golden_answers"] = [[f"alias {i}" for i in range(5000)]] * 6
    paths = [write(tmp_path / name, written) for name, written in zip("ab", made, strict=True)]
    page = render_html(comparison_page(compare_runs(read_suites(paths))))
    without_plotly = len(page) - len(get_plotlyjs())
    assert without_plotly < 100_000


def test_files_without_texts_still_make_a_page(tmp_path: Path) -> None:
    paths = [write(tmp_path / n, record(em, texts=False)) for n, em in (("a", BEFORE), ("b", AFTER))]
    page = Page(render_html(comparison_page(compare_runs(read_suites(paths)))))
    assert "By type and hops" not in page.visible
    assert "question q1" in page.visible


def test_runs_that_are_not_ranked_say_so_above_everything(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a", record(BEFORE)), write(tmp_path / "b", record(AFTER, comparability=block(top_k=5)))]
    page = Page(render_html(comparison_page(compare_runs(read_suites(paths)))))
    assert "Not ranked: the runs differ in top_k." in page.visible
    assert "forbids a ranking" in page.visible
    assert "✱" not in page.visible


def test_three_runs_and_suites_and_one_run_have_pages_too(tmp_path: Path) -> None:
    for run in ("a", "b", "c"):
        for name in ("one", "two"):
            write(tmp_path / run / name, record(BEFORE if run == "a" else AFTER))
    three = Page(render_html(comparison_page(compare_runs(read_suites([tmp_path / run for run in "abc"])))))
    assert "3 runs side by side" in three.visible
    assert "mean over sets" in three.visible
    assert "All figures on two" in three.visible
    alone = comparison_page(compare_runs(read_suites([tmp_path / "a" / "one"])))
    page = Page(render_html(alone))
    assert "Evaluation of one" in page.visible
    assert "minus" not in page.visible
    assert alone.comparability["top_k"] == 3


def test_latencies_stand_among_the_costs(tmp_path: Path) -> None:
    made = [{**record(em), "latency": {"search_s_p50": seconds}} for em, seconds in ((BEFORE, 0.25), (AFTER, 0.75))]
    comparison = compare_runs(read_suites([write(tmp_path / n, m) for n, m in zip("ab", made, strict=True)]))
    costs = next(section for section in comparison_page(comparison).sections if section.title == "Costs")
    assert costs.tables[0].rows == [["Seconds of a search, median", 0.25, 0.75, None]]


def test_groups_are_of_annotated_questions_only(tmp_path: Path) -> None:
    runs = read_suites([write(tmp_path / "a", record(BEFORE))])
    assert [(group.name, group.num_questions) for group in groups_of(runs, "num_hops", "em")] == [
        ("2 hops", 3),
        ("3 hops", 3),
    ]
    assert [group.name for group in groups_of(runs, "kind", "em")] == ["bridge", "comparison"]


def test_an_evaluation_that_was_just_made_has_the_same_parts() -> None:
    evaluation = evaluate_trajectories([good_trajectory()], [QUESTION])
    sections, columns = run_sections(evaluation, [QUESTION], [good_trajectory()])
    assert [section.title for section in sections] == ["By type and hops", "How episodes ended"]
    assert columns["question_id"] == ["q1"]
    assert columns["em"] == [1.0]
    assert columns["answers"] == ["Harald"]


def test_curves_of_training_runs_stand_on_the_page(tmp_path: Path, compared: Comparison) -> None:
    run = tmp_path / "runs" / "turn"
    run.mkdir(parents=True)
    lines = [
        {"step": i, "trajectories": 8 * i, "dev/em": i / 10, "dev/em_low": 0.0, "dev/em_high": 1.0} for i in range(4)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "tra')
    arms = training_arms([run])
    assert len(arms[0].metrics) == 4, "a line that is being written is left out"
    page = Page(render_html(comparison_page(compared, arms=arms)))
    assert "learning" in json.loads(page.scripts[0])
    with pytest.raises(FileNotFoundError, match=r"no metrics\.jsonl"):
        training_arms([tmp_path])
    with pytest.raises(ValueError, match="two training runs have one name"):
        training_arms([run, run])


def test_columns_and_numbers(tmp_path: Path) -> None:
    write_columns(tmp_path / "x.csv", {"=a": ["-x", "b"], "n": [-1.5, float("nan")]})
    assert (tmp_path / "x.csv").read_text() == "'=a,n\n'-x,-1.5\nb,\n"
    assert [format_difference(value) for value in (0.5, -0.5, 0.0, -0.0001, None)] == [
        "+0.500",
        "−0.500",
        "0.000",
        "0.000",
        "–",
    ]
    with pytest.raises(ValueError, match="different lengths"):
        Report(title="x", arms=[Arm(name="a")], per_question={"a": [1], "b": []})
