"""A run that ends itself (a collapse, an outage) is told by its message alone, with exit code 1, by every verb."""

from pathlib import Path
from typing import Any

import pytest

from scripts.cli import main
from tests.conftest import REPOSITORY
from train.watch_record import CollapseStop


@pytest.mark.parametrize(
    ("made_by", "arguments"),
    [
        ("train.run.train", ["train", str(REPOSITORY / "configs/laptop.yaml")]),
        ("train.quickstart.quickstart", ["quickstart"]),
    ],
)
def test_a_stop_is_told_without_a_traceback(
    made_by: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*args: Any, **named: Any) -> None:
        raise CollapseStop("the collapse watch ended the run at step 12")

    monkeypatch.setattr(made_by, stop)
    monkeypatch.setattr("scripts.cli.set_thread_budget", lambda threads, environ: None)
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--out", str(tmp_path / "run")])
    assert left.value.code == 1
    assert capsys.readouterr().err.strip().splitlines() == ["waymark: the collapse watch ended the run at step 12"]
