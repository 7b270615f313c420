"""docs/retrieval.md names every backend, setting and dialect there is, and its example runs."""

import json
import re
from pathlib import Path

import pytest

from retrieval.analyzer import AnalyzerSettings
from retrieval.backends import backend_named
from retrieval.corpus import DIALECTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "retrieval.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["bm25s", "rank_bm25"])
def test_the_page_names_every_setting_of_a_backend(name: str) -> None:
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}`")]
    fields = [field for field in backend_named(name).settings.model_fields if field != "analyzer"]
    settings = [*fields, *(f"analyzer.{field}" for field in AnalyzerSettings.model_fields)]
    assert re.findall(r"`([\w.]+)`", row.split("|")[3]) == settings


def test_the_page_names_every_dialect() -> None:
    named = {
        frozenset(re.findall(r"`(\w+)`", row)) - {"title"} for row in re.findall(r"^\| (`_?id`.*?) \|", PAGE, re.M)
    }
    assert named == {keys for keys, _ in DIALECTS}


def test_the_example_runs(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    rows = [
        {"id": "a", "text": "owls hoot"},
        {"id": "b", "text": "cats purr"},
        {"id": "c", "text": "owls sleep by day"},
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "retrieval.md", "exec"), names)
    [owls, cats] = names["search"](corpus, tmp_path / "index", ["an owl", "cats"])  # type: ignore[operator]
    assert [(rank, id_) for rank, id_, _ in owls] == [(1, "a"), (2, "c")]
    assert [(rank, id_) for rank, id_, _ in cats] == [(1, "b")]
