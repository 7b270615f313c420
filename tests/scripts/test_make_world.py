"""The verb that makes a world: what it writes, what `--describe` prints, and what it refuses."""

import json
from pathlib import Path

import pytest

from scripts.cli import main

SMALL = ["--set", "train_questions=20", "--set", "dev_questions=6", "--set", "test_questions=12"]


def waymark(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


def test_a_world_is_made_described_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figures = tmp_path / "w", tmp_path / "made" / "world.json"
    options = ["--preset", "tiny", "--hops", "2,3", "--kinds", "bridge,comparison", "--seed", "5", *SMALL]
    assert waymark("make-world", *options, "--out", str(out), "--describe", "--json", str(figures)) == 0
    printed = capsys.readouterr().out
    measured = json.loads(figures.read_text())
    assert measured["settings"]["hops"] == [2, 3] and measured["settings"]["seed"] == 5
    assert measured["counts"]["questions"]["train"]["all"] == 40
    for name in ("paraphrase_word_jaccard", "paraphrase_top5_overlap", "hop_recall@2"):
        assert f"  {name}: {measured['measures'][name]:.3f}" in printed
    assert printed.count("  answer: ") == 3 and "bridge, 2 hops: " in printed and "comparison, " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "no preset is named 'huge'; presets: tiny, small, large"),
        (["--hops", "5"], "hops must be among 2, 3 and 4"),
        (["--kinds", "riddle"], "'riddle' is not allowed; give 'bridge', 'comparison' or 'intersection'"),
        (["--set", "relations=birthplace,shoe_size"], "no relation is named shoe_size"),
        (["--set", "train_questions=0", "--set", "dev_questions=0", "--set", "test_questions=0"], "no questions"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert waymark("make-world", "--out", str(tmp_path / "w"), *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
