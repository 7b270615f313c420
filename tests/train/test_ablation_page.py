"""The page and the tables say what the figures say: every seed where they are few, intervals where they are many."""

import re
from pathlib import Path
from typing import Any

import pytest

from evaluation.report_parts import Measure, Table
from evaluation.seed_pairs import MIN_SEEDS
from tests.train.ablation_records import tiny_ablation, write_fakes
from train.ablation import Ablation
from train.ablation_figures import comparison_figures
from train.ablation_markdown import as_markdown, table_as_markdown, write_markdown
from train.ablation_page import difference_table, final_table, seeds_cell, threshold_table, write_page
from train.config_file import ConfigError

WRONG, RIGHT = [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]


def compared(out: Path, seeds: int) -> tuple[Ablation, dict[str, Any]]:
    ablation = tiny_ablation(out, seeds=seeds)
    write_fakes(ablation, {"outcome": [RIGHT] * seeds, "hops_normalised": [WRONG] * seeds})
    figures = comparison_figures(
        list(ablation.methods.values()), ablation.read(), setting="tiny", title="Tiny", threshold=0.8, budget=16
    )
    return ablation, figures


def test_the_page_is_self_contained_and_has_every_seed_in_its_chart(tmp_path: Path) -> None:
    ablation, figures = compared(tmp_path, seeds=3)
    page = write_page(tmp_path, figures, ablation.read()).read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?https?:", page)
    assert "prefers-color-scheme" in page and "viewport" in page
    for words in ("Outcome-only GRPO", "Method minus outcome-only", "Trajectories to dev EM 0.8", "seed 2"):
        assert words in page, words


def test_few_seeds_are_shown_one_by_one_and_many_as_an_interval() -> None:
    few = {"mean": 0.5, "low": 0.25, "high": 0.75, "seeds": [0.25, None, 0.75]}
    many = {"mean": 0.5, "low": 0.4, "high": 0.6, "seeds": [0.5] * MIN_SEEDS}
    assert seeds_cell(few) == "0.250 · 0.750"
    assert seeds_cell(many) == Measure(value=0.5, low=0.4, high=0.6)
    assert seeds_cell(None) is None


def test_no_table_claims_what_few_seeds_show(tmp_path: Path) -> None:
    _, figures = compared(tmp_path, seeds=3)
    (row,) = difference_table(figures).rows
    assert row[3] == row[5] == "too few seeds"
    _, figures = compared(tmp_path / "many", seeds=MIN_SEEDS)
    (row,) = difference_table(figures).rows
    assert str(row[3]).endswith("significant") and str(row[5]).endswith("significant")


def test_every_paired_measure_stands_in_the_one_line_of_a_method(tmp_path: Path) -> None:
    _, figures = compared(tmp_path, seeds=3)
    against = figures["methods"]["hops_normalised"]["against_baseline"]
    against["citation_recall"] |= {"num_seeds": 2, "difference": 0.25, "low": 0.125, "high": 0.375}
    del against["support_recall"]
    table = difference_table(figures)
    assert list(table.columns) == [
        *("method", "seeds", "EM [95 %]", "p", "F1 [95 %]", "p"),
        *("Support recall", "Citation precision", "Citation recall", "Consistency, end to end"),
    ]
    line = next(text for text in table_as_markdown(table).splitlines() if text.startswith("| Hop reward per turn"))
    cells = line.strip("| ").split(" | ")
    assert cells[1] == "3" and cells[2].startswith("−0.500† [−") and cells[3] == "too few seeds"
    assert (cells[6], cells[9]) == ("–", "–"), "what is not known"
    assert cells[8] == "+0.250 (seeds: 2) [+0.125, +0.375]"


def test_the_calls_of_a_method_that_did_not_arrive_are_not_told(tmp_path: Path) -> None:
    _, figures = compared(tmp_path, seeds=2)
    calls = figures["methods"]["outcome"]["to_threshold"]["retriever_calls"]
    calls |= {"needed": [None, 16], "restricted_mean": None, "restricted_mean_low": None, "ratio": None}
    table = threshold_table(figures, "retriever_calls")
    assert "| 1 of 2 | – | – | – · 16 |" in table_as_markdown(table)
    assert "only where all seeds reached it. A point past the budget does not count." in table.note
    assert "threshold, budget), mean" in threshold_table(figures, "trajectories").note


def test_a_measure_that_no_method_has_is_no_column(tmp_path: Path) -> None:
    _, figures = compared(tmp_path, seeds=1)
    assert "Consistency, end to end" not in final_table(figures).columns
    assert list(final_table(figures).columns)[:3] == ["method", "seeds", "EM"]


def test_the_markdown_lists_the_cells_that_may_be_a_loss(tmp_path: Path) -> None:
    _, figures = compared(tmp_path, seeds=2)
    text = as_markdown(figures)
    assert "reaches below −0.02:" in text
    assert re.search(r"- Hop reward per turn, normalised apart, under GRPO: EM −0\.500 \[−[^;]*\]; F1 ", text)
    assert f"; commits {', '.join(figures['made_with']['commits'])}; made by" in text
    figures["below"] = []
    assert as_markdown(figures).endswith("reaches below −0.02: none.\n")


def test_tables_are_written_between_their_marks_and_the_rest_stays(tmp_path: Path) -> None:
    _, figures = compared(tmp_path, seeds=2)
    page = tmp_path / "methods.md"
    page.write_text("before\n<!-- ablate:tiny -->\nstale words\n<!-- /ablate:tiny -->\nafter\n", encoding="utf-8")
    write_markdown(page, figures)
    once = page.read_text(encoding="utf-8")
    assert once.startswith("before\n") and once.endswith("after\n") and "stale words" not in once
    write_markdown(page, figures)
    assert page.read_text(encoding="utf-8") == once


def test_a_page_without_marks_is_left_alone_and_a_new_one_gets_them(tmp_path: Path) -> None:
    _, figures = compared(tmp_path, seeds=1)
    page = tmp_path / "methods.md"
    page.write_text("a page\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has no marks <!-- ablate:tiny -->"):
        write_markdown(page, figures)
    assert page.read_text(encoding="utf-8") == "a page\n"
    write_markdown(tmp_path / "new.md", figures)
    assert (tmp_path / "new.md").read_text(encoding="utf-8").startswith("<!-- ablate:tiny -->\n")


def test_a_table_survives_what_stands_in_its_cells() -> None:
    table = Table(
        title="T",
        columns=["a", "b", "c", "d"],
        rows=[["x|y", None, Measure(value=0.5), Measure(value=1234.0, low=1000.0, high=2000.0)]],
    )
    lines = table_as_markdown(table).splitlines()
    assert lines[4] == "| x\\|y | – | 0.500 | 1,234 [1,000, 2,000] |"
