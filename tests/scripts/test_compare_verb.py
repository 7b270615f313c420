"""The verbs as people call them: exit codes, messages on standard error, and what is printed and written."""

import json
from pathlib import Path

import pytest

from scripts.cli import main
from tests.evaluation.evaluations import block, record, write

WEAK, STRONG = [0.0, 1.0] * 20, [1.0] * 38 + [0.0, 1.0]


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def test_two_runs_are_compared_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write(tmp_path / name, record(em)) for name, em in (("weak", WEAK), ("strong", STRONG))]
    out, figures = tmp_path / "report", tmp_path / "figures.json"
    assert _run("compare", *paths, "--out", out, "--json", figures) == 0
    printed = capsys.readouterr().out
    assert "strong is better than weak" in printed
    assert "What differs" not in printed
    assert sorted(path.name for path in out.iterdir()) == ["report.csv", "report.html", "report.json"]
    assert json.loads(figures.read_text())["ranked"] is True


def test_runs_that_are_not_alike_are_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write(tmp_path / "a", record(WEAK)), write(tmp_path / "b", record(STRONG, comparability=block(top_k=5)))]
    assert _run("compare", *paths) == 2
    told = capsys.readouterr()
    assert "top_k: a 3, b 5" in told.err
    assert "--allow top_k" in told.err
    assert "better than" not in told.out
    assert _run("compare", *paths, "--allow", "top_k") == 0
    assert "Allowed, and part of the difference: top_k: a 3, b 5" in capsys.readouterr().out


def test_bad_input_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "a", record(WEAK))
    newer = write(tmp_path / "b", {**record(WEAK), "format": 99})
    other = write(tmp_path / "c", record([1.0], ids=["other"]))
    for arguments, message in (
        ((good, newer), "newer one; update Waymark"),
        ((good, other), "no question in common"),
        ((good, tmp_path / "nowhere"), "there is no evaluation at"),
        ((good, good), "given twice"),
        ((good, "--measures", "bleu"), "no measure bleu"),
    ):
        assert _run("compare", *arguments) == 2
        assert message in capsys.readouterr().err


def test_an_overlap_is_counted_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def questions(name: str, texts: list[str]) -> Path:
        rows = [{"id": f"q{i}", "question": text, "golden_answers": ["x"]} for i, text in enumerate(texts)]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / name

    trained = questions("train.jsonl", ["Who wrote the book about the whale?", "Where is Rome?"])
    asked = questions("test.jsonl", ["who wrote book about the WHALE", "Who painted the ceiling?"])
    run = write(tmp_path / "a", record([1.0, 0.0]))
    out, clean = tmp_path / "overlap.json", tmp_path / "clean.txt"
    arguments = (trained, "--questions", asked, "--evaluation", run, "--json", out, "--clean", clean)
    assert _run("check-overlap", *arguments) == 0
    printed = capsys.readouterr().out
    assert "q0 · q0: the same question, and its answer" in printed
    written = json.loads(out.read_text())
    assert (written["contaminated"], written["num_questions"], written["num_training"]) == (1, 2, 2)
    assert written["evaluations"][str(run)]["clean"] == 0.0
    assert clean.read_text() == "q1\n"
    assert _run("check-overlap", trained, "--questions", asked, "--n", "0") == 2
    assert "n is 0" in capsys.readouterr().err
