"""The page must be whole without a network, run nothing that a document or a model wrote, and show the figures."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evaluation.charts import em_chart, learning_chart, metric_charts, reward_charts
from evaluation.comparability import comparability_block
from evaluation.report import format_number, render_html, report_record, script_json, write_report
from evaluation.report_parts import (
    Arm,
    CurvePoint,
    Example,
    ExamplePassage,
    ExampleTurn,
    Measure,
    Report,
    SeedRun,
    Table,
)
from tests.evaluation.reports import NASTY, many_seed_report, one_seed_report, summary


class Page(HTMLParser):
    """Elements, attributes and the text of a page, scripts apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._inside: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            if tag == "script":
                self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside is None:
            self.text.append(data)

    @property
    def visible(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def _nasty_report() -> Report:
    turn = ExampleTurn(
        kind="call",
        thought=NASTY,
        queries=[NASTY],
        answer=NASTY,
        error=NASTY,
        passages=[ExamplePassage(number=1, id=NASTY, title=NASTY, text=NASTY)],
        rewards={NASTY: 1.0},
        advantage=0.5,
    )
    example = Example(
        id=NASTY,
        question=NASTY,
        golden_answers=[NASTY],
        finish_reason=NASTY,
        turns=[turn],
        rewards={NASTY: 0.0},
        label=NASTY,
    )
    arm = Arm(
        name=NASTY,
        curve=[CurvePoint(trajectories=0, value=0.1, low=0, high=0.2), CurvePoint(trajectories=1, value=0.2)],
        metrics=[{"step": 1, f"rewards/{NASTY}/mean": 0.3}],
        final={**summary(0.5), "finish_reasons": {NASTY: 3}},
    )
    return Report(
        title=NASTY,
        summary_lines=[NASTY],
        arms=[arm],
        controls={NASTY: summary(0.1)},
        tables=[Table(title=NASTY, columns=[NASTY], rows=[[NASTY]], note=NASTY)],
        examples=[example],
        comparability={NASTY: NASTY},
        notes=[NASTY],
        curve_title=NASTY,
    )


def test_nothing_that_documents_or_models_wrote_becomes_an_element() -> None:
    clean, nasty = Page(render_html(one_seed_report())), Page(render_html(_nasty_report()))
    assert len(nasty.scripts) == len(clean.scripts) == 3
    assert not any(tag == "img" for tag, _ in nasty.elements)
    assert not any(name.startswith("on") for _, attributes in nasty.elements for name in attributes)
    assert "alert(1)" not in nasty.scripts[1] + nasty.scripts[2]
    assert nasty.visible.count("<script>alert(1)</script>") > 15, "it is shown as text, everywhere"


def test_chart_data_cannot_end_its_script_element() -> None:
    text = script_json({"x": "</script><!-- <script> & \u2028"})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"x": "</script><!-- <script> & \u2028"}


def test_names_are_escaped_for_plotlys_own_markup() -> None:
    report = replace(one_seed_report(), arms=[replace(one_seed_report().arms[0], name="<b>bold</b>")])
    chart = learning_chart(report)
    assert chart is not None
    assert {trace["name"] for trace in chart.figure["data"]} == {"&lt;b&gt;bold&lt;/b&gt;"}


def test_the_page_makes_no_request_and_allows_only_its_own_scripts() -> None:
    page = Page(render_html(one_seed_report()))
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            if name in attributes:
                assert (attributes[name] or "").startswith(("#", "data:,")), (tag, attributes)
    policy = next(a["content"] or "" for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert policy.count("sha256-") == 2


def test_the_hashes_are_those_of_the_scripts_as_they_stand_in_the_page() -> None:
    import base64
    import hashlib

    page = Page(render_html(one_seed_report()))
    policy = next(a["content"] or "" for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    for script in page.scripts[1:]:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


def test_plotly_is_inlined_once_and_its_size_is_said() -> None:
    html = render_html(one_seed_report())
    assert 4_500_000 < len(html) < 6_500_000
    assert re.search(r"is inlined once, 4\.\d MB of it", html)
    assert len(render_html(Report(title="No charts"))) < 30_000


def test_what_a_reader_looks_for_is_on_the_page() -> None:
    page = Page(render_html(one_seed_report()))
    for text in (
        "Bands are 95 % bootstrap intervals over questions: one seed",
        "0.960",
        "0.940 to 0.980",
        "cold_start",
        "random_retriever",
        "Who is king of the country whose capital is Oslo?",
        "Turn 1 · search",
        "hop_relevance 0.500",
        "advantage +0.94",
        "gold",
        "cited",
        "Nothing was shown.",
        "turn_limit",
        "model.weights_sha256",
        "index.index_hash",
        "packages.trl",
        "commit",
    ):
        assert text in page.visible, text


def test_keyboard_and_screen_readers() -> None:
    page = Page(render_html(one_seed_report()))
    assert ("html", {"lang": "en"}) in page.elements
    charts = [a for t, a in page.elements if t == "div" and "chart" in (a.get("class") or "").split()]
    assert charts
    assert all(a.get("role") == "img" and a.get("aria-label") for a in charts)
    scrolling = [a for t, a in page.elements if t == "div" and "scroll" in (a.get("class") or "").split()]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolling)
    targets = {a["href"] for t, a in page.elements if t == "a" and a.get("href")}
    ids = {f"#{a['id']}" for _, a in page.elements if a.get("id")}
    assert targets <= ids


def test_figures_are_valid_plotly() -> None:
    import plotly.graph_objects as go

    for report in (one_seed_report(), many_seed_report()):
        charts = [learning_chart(report), em_chart(report), *metric_charts(report), *reward_charts(report)]
        assert len(charts) >= 7
        for chart in charts:
            assert chart is not None
            go.Figure(chart.figure)


def test_several_seeds_are_thin_lines_under_their_median() -> None:
    report = many_seed_report()
    chart = learning_chart(report)
    assert chart is not None
    turn = [trace for trace in chart.figure["data"] if trace["legendgroup"] == "turn"]
    thin = [trace for trace in turn if trace["line"]["width"] == 1]
    bold = [trace for trace in turn if trace["showlegend"]]
    assert (len(thin), len(bold)) == (5, 1)
    for i, y in enumerate(bold[0]["y"]):
        assert y == sorted(trace["y"][i] for trace in thin)[2]
    page = Page(render_html(report))
    assert "median over 5 seeds" in page.visible
    assert "censored at the budget" in page.visible
    searches = next(c for c in metric_charts(report) if c.title == "Searches per sampled trajectory")
    assert len([t for t in searches.figure["data"] if t["line"]["width"] == 1]) == 15


def test_one_seed_of_a_study_keeps_its_intervals_over_questions() -> None:
    arm = many_seed_report().arms[0]
    report = Report(title="x", arms=[replace(arm, seeds=arm.seeds[:1])])
    html = render_html(report)
    assert "one seed, so they say nothing about other seeds" in html
    record = report_record(report)["arms"]["outcome"]
    assert record["curve"][1]["low"] == arm.seeds[0].curve[1].low


def test_a_run_of_one_step_is_seen() -> None:
    whole = one_seed_report()
    arms = [replace(arm, metrics=arm.metrics[:1]) for arm in whole.arms]
    traces = [trace for chart in metric_charts(replace(whole, arms=arms)) for trace in chart.figure["data"]]
    assert [len(trace["x"]) for trace in traces].count(1) == len(traces) > 0
    assert all("markers" in trace["mode"] for trace in traces)


def test_report_json_has_the_keys_that_others_read(tmp_path: Path) -> None:
    report = one_seed_report()
    path = write_report(tmp_path, report)
    assert path == tmp_path / "report.html"
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["arms"]["turn"]["em"] == 0.96
    assert record["arms"]["turn"]["curve"][0]["trajectories"] == 0
    assert len(record["arms"]["turn"]["metrics"]["rewards/exact_match/mean"]) == 60
    assert record["controls"]["closed_book"]["em"] == 0.02
    assert record["comparability"]["seeds"] == [0]
    assert "one seed" in record["intervals"]
    assert [p["low"] for p in record["arms"]["outcome"]["curve"]]


def test_a_real_comparability_block_is_rendered() -> None:
    page = Page(render_html(Report(title="x", comparability=comparability_block(model="a/b", seeds=[3]))))
    assert "hardware.cpu" in page.visible
    assert "packages.torch" in page.visible


def test_odd_figures_do_not_break_the_page(tmp_path: Path) -> None:
    nan = float("nan")
    report = Report(
        title="\ud800 half a character",
        arms=[Arm(name="a", metrics=[{"step": 1, "em": nan}, {"step": 2, "em": True}], final={"em": None, "f1": nan})],
        tables=[Table(title="t", columns=["a", "b", "c"], rows=[["x", Measure(value=None), nan]])],
    )
    write_report(tmp_path, report)
    assert json.loads((tmp_path / "report.json").read_text())["arms"]["a"]["f1"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (200, "200"),
        (5760.0, "5,760"),
        (0.5, "0.500"),
        (148.23, "148.2"),
        (18.0, "18.0"),
    ],
)
def test_numbers_read_well(value: float | None, text: str) -> None:
    assert format_number(value) == text


def test_bad_reports_are_refused() -> None:
    with pytest.raises(ValueError, match="2 columns but a row of 1"):
        Table(title="t", columns=["a", "b"], rows=[["x"]])
    with pytest.raises(ValueError, match="two arms have one name"):
        Report(title="x", arms=[Arm(name="a"), Arm(name="a")])


def test_seeds_of_different_length_meet_where_all_have_been() -> None:
    long = [CurvePoint(trajectories=i, value=0.1 * i) for i in range(5)]
    arm = Arm(name="a", seeds=[SeedRun(seed=0, curve=long), SeedRun(seed=1, curve=long[:3])])
    assert [p["trajectories"] for p in report_record(Report(title="x", arms=[arm]))["arms"]["a"]["curve"]] == [0, 1, 2]
