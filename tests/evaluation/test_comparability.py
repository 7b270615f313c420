"""Two figures may be compared when their blocks agree: the block must move with what matters, and only with that."""

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from agent.protocols.registry import load_protocol
from evaluation.comparability import (
    METRIC_VERSION,
    checkout_commit,
    comparability_block,
    describe_chat_template,
    describe_encoders,
    describe_model,
    describe_passage_format,
    describe_protocol,
    hardware,
    package_versions,
)
from rewards.answer import exact_match, f1, sub_em


@dataclass(frozen=True)
class Table:
    name: str = "toy"
    stop: tuple[str, ...] = ("</a>",)
    tags: frozenset[str] = frozenset({"b", "a"})


class Limits(BaseModel):
    top_k: int = 3
    max_searches: int | None = None


class Manifest:
    backend = "bm25s"
    index_hash = "i" * 64
    corpus_hash = "c" * 64
    num_passages = 50


class Index:
    manifest = Manifest()


def test_the_block_is_json_and_holds_what_must_be_equal(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("{}\n")
    block = comparability_block(
        model="Qwen/Qwen2.5-3B",
        index=Index(),
        protocol=Table(),
        limits=Limits(),
        decoding={"temperature": 0.0},
        seeds=[1, 2],
        questions=questions,
        deviations=["tags in passages are neutralised"],
        extra={"rollout_schedule": "deterministic"},
    )
    again = json.loads(json.dumps(block, allow_nan=False))
    assert again == block
    assert block["model"] == {"name": "Qwen/Qwen2.5-3B", "weights_sha256": None}
    assert block["index"] == {
        "backend": "bm25s",
        "index_hash": "i" * 64,
        "corpus_hash": "c" * 64,
        "num_passages": 50,
    }
    assert block["limits"] == {"top_k": 3, "max_searches": None}
    assert block["seeds"] == [1, 2]
    assert block["rollout_schedule"] == "deterministic"
    assert block["packages"]["numpy"]
    assert block["hardware"]["cores"] >= 1


def test_the_protocol_hash_moves_with_any_field_and_with_nothing_else() -> None:
    first = describe_protocol(Table())
    assert first == describe_protocol(Table(tags=frozenset({"a", "b"})))
    assert first != describe_protocol(replace(Table(), stop=("</b>",)))


def test_the_weights_hash_moves_with_the_weights_and_not_with_the_folder(tmp_path: Path) -> None:
    for name, content in (("one", b"w"), ("two", b"w"), ("three", b"v")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    one, two, three = (describe_model(tmp_path / name) for name in ("one", "two", "three"))
    assert one is not None
    assert two is not None
    assert three is not None
    assert one["name"] == "one"
    assert one["weights_sha256"] == two["weights_sha256"] != three["weights_sha256"]


def test_a_commit_only_inside_the_checkout_that_tracks_the_module(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("x = 1\n")
    assert checkout_commit(module) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert checkout_commit(module) is None, "an installed file inside another repository is not of its commit"
    subprocess.run([*git, "add", "module.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    clean = checkout_commit(module)
    assert clean is not None
    assert len(clean) == 40
    module.write_text("x = 2\n")
    assert checkout_commit(module) == f"{clean}+changes"


def test_no_git_at_all_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert checkout_commit() is None


def test_the_machine_is_described_and_missing_packages_are_null(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(hardware()) == {"cpu", "cores", "ram_gib", "gpus"}
    monkeypatch.setattr("evaluation.comparability.PACKAGES", ("no-such-package", "numpy"))
    versions = package_versions()
    assert versions["no-such-package"] is None
    assert versions["numpy"] is not None


def test_extra_may_not_hide_an_entry() -> None:
    with pytest.raises(ValueError, match="extra repeats seeds"):
        comparability_block(extra={"seeds": []})


def test_encoders_are_found_in_every_part_of_a_retriever() -> None:
    dense = {"backend": "flat", "settings": {"encoder": {"model": "e5", "files_sha256": "1"}}}
    lexical = {"backend": "bm25s", "settings": {"k1": 1.5}}
    assert describe_encoders(dense) == [{"model": "e5", "files_sha256": "1"}]
    assert describe_encoders(lexical) == []
    reranked = {"settings": {"scorer": {"model": "cross"}}, "parts": [{"parts": [lexical, dense]}]}
    assert describe_encoders(reranked) == [{"model": "cross"}, {"model": "e5", "files_sha256": "1"}]
    assert describe_encoders(None) is None
    assert describe_encoders({"url": "http://127.0.0.1:8000"}) is None, "a server that does not say is unknown"


def test_the_chat_template_is_hashed_and_its_absence_is_told_apart_from_not_knowing() -> None:
    class Tokenizer:
        chat_template: str | None = "{{ messages }}"

    with_template = describe_chat_template(Tokenizer())
    assert with_template is not None
    assert len(with_template["sha256"]) == 64
    Tokenizer.chat_template = "{{ messages }}!"
    assert describe_chat_template(Tokenizer()) != with_template
    Tokenizer.chat_template = None
    assert describe_chat_template(Tokenizer()) == {"sha256": None}
    assert describe_chat_template(None) is None


def test_the_passage_format_is_the_protocols_own() -> None:
    formats = [describe_passage_format(load_protocol(name)) for name in ("waymark", "search_r1")]
    assert formats[0] != formats[1]
    assert formats[0] is not None
    assert "{text}" in formats[0]["passage"]
    assert describe_passage_format(Table()) is None


def test_the_metrics_have_the_version_that_these_scores_belong_to() -> None:
    """If this fails because a formula was changed on purpose, raise METRIC_VERSION and write the new scores here."""
    hard = [("The Beatles!", "beatles"), ("no", "no way"), ("1,000", "1000"), ("", "x"), ("a b c", "c b a d")]
    scores = [(exact_match(said, [gold]), round(f1(said, [gold]), 4), sub_em(said, [gold])) for said, gold in hard]
    assert (METRIC_VERSION, scores) == (
        1,
        [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.8, 0.0)],
    )
