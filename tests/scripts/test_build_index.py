import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cli import main

ROWS = [{"id": "a", "title": "Ada", "text": "Ada lives in Rome"}, {"id": "b", "title": "Rome", "text": "on the Tiber"}]
QUESTIONS = [
    {
        "id": "q1",
        "question": "Where does Ada live?",
        "golden_answers": ["Rome"],
        "supporting_ids": ["a"],
        "split": "dev",
    },
    {"id": "q2", "question": "Rome's river?", "golden_answers": ["Tiber"], "supporting_ids": ["b", "gone"]},
]
DEAD = '{url: "http://127.0.0.1:9", retries: 0}'


def jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def waymark(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


def test_build_and_evaluate_an_index_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    corpus, questions = jsonl(tmp_path / "c.jsonl", ROWS), jsonl(tmp_path / "q.jsonl", QUESTIONS)
    out, figures = str(tmp_path / "index"), tmp_path / "made" / "build.json"
    assert waymark("build-index", corpus, "--out", out, "--set", "k1=0.9", "--json", str(figures)) == 0
    built = json.loads(figures.read_text())
    assert built["num_passages"] == 2 and built["settings"]["k1"] == 0.9
    assert built["index_hash"][:12] in capsys.readouterr().out
    measured = tmp_path / "quality.json"
    assert waymark("evaluate-index", out, "--questions", questions, "--k", "1,2", "--json", str(measured)) == 0
    quality = json.loads(measured.read_text())
    assert quality["n"] == 2 and quality["recall_all@1"] == 0.5 and quality["recall_mean@2"] == 0.75
    assert {"recall_all@2_low", "recall_all@2_high", "ndcg@10", "mrr@10_high"} <= quality.keys()
    assert quality["missing_supports"] == 1 and quality["missing_by_question"] == {"q2": ["gone"]}
    assert quality["index_hash"] == built["index_hash"]
    assert "1 of 3 supports are not in the corpus" in capsys.readouterr().err
    assert waymark("evaluate-index", out, "--questions", questions, "--k", "1", "--where", "split=dev") == 0
    assert "n = 1 questions" in capsys.readouterr().out


def test_several_indexes_are_compared_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    corpus, questions = jsonl(tmp_path / "c.jsonl", ROWS), jsonl(tmp_path / "q.jsonl", QUESTIONS)
    one, two, hybrid = str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "hybrid.json")
    assert waymark("build-index", corpus, "--out", one) == 0
    assert waymark("build-index", corpus, "--out", two, "--backend", "rank_bm25") == 0
    Path(hybrid).write_text(json.dumps({"hybrid": [one, two]}))
    capsys.readouterr()
    measured = tmp_path / "quality.json"
    options = ["--questions", questions, "--k", "1,2", "--coverage", "--json", str(measured)]
    assert waymark("evaluate-index", one, two, hybrid, *options) == 0
    figures = json.loads(measured.read_text())
    assert [entry["index"] for entry in figures["indexes"]] == [one, two, hybrid] and figures["same_corpus"] is True
    assert [entry["backend"] for entry in figures["indexes"]] == ["bm25s", "rank_bm25", "hybrid"]
    assert len(figures["comparisons"]) == 9 and {entry["missing_supports"] for entry in figures["indexes"]} == {1}
    assert figures["indexes"][2]["coverage_supports"] == 0.5 and figures["indexes"][2]["coverage_answers"] == 1.0
    shown = capsys.readouterr()
    assert "n = 2 questions" in shown.out and "1 of 3 supports are not in the corpus" in shown.err


def test_a_dry_run_prints_what_a_build_will_need_and_builds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    corpus, figures = jsonl(tmp_path / "c.jsonl", ROWS), tmp_path / "needs.json"
    out = tmp_path / "index"
    assert waymark("build-index", corpus, "--out", str(out), "--dry-run", "--json", str(figures)) == 0
    printed = capsys.readouterr().out
    for label in ("passages", "memory", "disk", "time", "postings"):
        assert f"\n{label}" in f"\n{printed}"
    assert "2 (counted; measured on the first 2)" in printed and not out.exists()
    needs = json.loads(figures.read_text())
    assert needs["num_passages"] == 2 and needs["fits_the_disk"] is True
    assert {"ram_bytes", "disk_bytes", "peak_disk_bytes", "seconds", "details"} <= needs.keys()


def test_a_dry_run_says_what_is_there_already_and_keeps_labels_and_values_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, out = jsonl(tmp_path / "c.jsonl", ROWS), tmp_path / "index"
    assert waymark("build-index", corpus, "--out", str(out)) == 0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("retrieval.index.file_checksums", interrupted)
        options = [corpus, "--out", str(out), "--backend", "rank_bm25"]
        assert waymark("build-index", *options, "--overwrite") == 130
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    assert waymark("build-index", *options, "--dry-run") == 0
    shown = capsys.readouterr()
    lines = dict(line.split("  ", 1) for line in shown.out.splitlines())
    assert lines["memory when opened"].strip() == "about 600 bytes" and " bytes while it is built" in lines["disk"]
    assert lines["unfinished"].strip().startswith(f"merged in {tmp_path / '.index.building'}; ")
    assert f"{out} already holds an index; the build needs --overwrite to replace it" in shown.err
    assert sorted(tmp_path.rglob("*")) == before
    assert waymark("build-index", corpus, "--out", str(out), "--dry-run", "--overwrite") == 0
    shown = capsys.readouterr()
    assert "a new one clears away, since its backend, settings, shard_size, versions differ" in shown.out
    assert shown.err == ""


def test_a_build_that_goes_on_says_so(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    corpus, out = jsonl(tmp_path / "c.jsonl", ROWS), str(tmp_path / "index")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("retrieval.index.file_checksums", interrupted)
        assert waymark("build-index", corpus, "--out", out) == 130
    capsys.readouterr()
    assert waymark("build-index", corpus, "--out", out) == 0
    assert "going on with the unfinished build in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build-index", "none.jsonl", "--out", "i"], "no corpus at none.jsonl"),
        (["build-index", "c.jsonl", "--out", "i", "--ram-gb", "0.001"], "--ram-gb 0.001 is less than the"),
        (["build-index", "c.jsonl", "--out", "i", "--workers", "0"], "--workers is 0; give at least 1"),
        (["build-index", "broken.jsonl", "--out", "i"], "broken.jsonl, line 2: not JSON"),
        (["build-index", "twice.jsonl", "--out", "i"], "line 2: id 'a' was already used in line 1"),
        (["build-index", "empty.jsonl", "--out", "i"], "the corpus is empty"),
        (["build-index", "c.jsonl", "--out", "index"], "add --overwrite"),
        (["build-index", "c.jsonl", "--out", "i", "--backend", "x"], "choose one of bm25s, rank_bm25"),
        (["build-index", "c.jsonl", "--out", "i", "--set", "k1"], "write --set name=value"),
        (
            ["build-index", "c.jsonl", "--out", "i", "--set", "b=7"],
            "waymark: --set b: 7 is too large; give at most 1\n",
        ),
        (["build-index", "c.jsonl", "--out", "i", "--set", "k1=abc"], "waymark: --set k1: 'abc' is not a number\n"),
        (
            ["build-index", "c.jsonl", "--out", "i", "--set", "analyzer=3"],
            "--set analyzer: an analyzer is set by its parts",
        ),
        (["build-index", "c.jsonl", "--out", "i", "--set", "analyzer.x=3"], "analyzer.stopwords, analyzer.stemmer"),
        (["evaluate-index", "none", "--questions", "q.jsonl"], "no index at none"),
        (["evaluate-index", "c.jsonl", "--questions", "q.jsonl"], "is a folder; build one with `waymark build-index c"),
        (["serve-index", "c.jsonl", "--port", "0"], "c.jsonl is a file, and an index is a folder"),
        (["serve-index", "begun", "--port", "0"], "no index at begun, but an unfinished build in"),
        (["evaluate-index", "index", "index", "--questions", "q.jsonl"], "index is given twice"),
        (["evaluate-index", "index", DEAD, "--questions", "q.jsonl", "--k", "1"], "cannot be searched: "),
        (["evaluate-index", DEAD, "--questions", "q.jsonl"], "Start its server (`waymark serve-index INDEX`), or name"),
        (["evaluate-index", "index", "--questions", "q.jsonl", "--k", "3"], "the corpus has 2 passages"),
        (["evaluate-index", "index", "--questions", "q.jsonl", "--k", "five"], "write numbers separated by commas"),
        (["evaluate-index", "index", "--questions", "q.jsonl", "--k", "1", "--where", "split=x"], "no question has"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl(Path("c.jsonl"), ROWS)
    jsonl(Path("q.jsonl"), QUESTIONS)
    jsonl(Path("twice.jsonl"), [ROWS[0], ROWS[0]])
    Path("broken.jsonl").write_text(json.dumps(ROWS[0]) + "\n{oops\n")
    Path("empty.jsonl").write_text("")
    Path(".begun.building").mkdir()
    assert waymark("build-index", "c.jsonl", "--out", "index") == 0
    capsys.readouterr()
    assert waymark(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert "" not in error.splitlines(), "no blank line of an empty progress bar"
    assert not Path("i").exists() and list(Path().glob(".*")) == [Path(".begun.building")]


def test_the_module_is_the_same_verb() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "scripts.build_index", "--help"]
    assert "Example: waymark build-index" in subprocess.run(command, cwd=root, capture_output=True, text=True).stdout
