"""Nothing that decides a figure may differ unseen; what is compared, or merely circumstance, does not forbid."""

from typing import Any

import pytest

from evaluation.block_differences import block_differences, difference_lines
from evaluation.comparability import comparability_block
from tests.evaluation.evaluations import BLOCK, block


def test_equal_blocks_differ_in_nothing() -> None:
    assert block_differences([BLOCK, dict(BLOCK)]) == ()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("index.index_hash", {"index": {**BLOCK["index"], "index_hash": "9" * 64}}),
        ("index.corpus_hash", {"index": {**BLOCK["index"], "corpus_hash": "9" * 64}}),
        ("index.settings.k1", {"index": {**BLOCK["index"], "settings": {"k1": 0.9}}}),
        ("encoder", {"encoder": [{"model": "e5"}]}),
        ("top_k", {"top_k": 5}),
        ("protocol.sha256", {"protocol": {"name": "waymark", "sha256": "9" * 64}}),
        ("passage_format.passage", {"passage_format": {"passage": "{title}: {text}"}}),
        ("chat_template.sha256", {"chat_template": {"sha256": "9" * 64}}),
        ("limits.max_turns", {"limits": {"top_k": 3, "max_turns": 6}}),
        ("decoding.temperature", {"decoding": {"temperature": 1.0, "samples": 1}}),
        ("questions.sha256", {"questions": {"name": "other.jsonl", "sha256": "9" * 64}}),
        ("metric_version", {"metric_version": 2}),
        ("deviations", {"deviations": ["noise"]}),
        ("tokenizer", {"tokenizer": "other"}),
    ],
)
def test_whatever_decides_a_figure_forbids_a_ranking_until_it_is_allowed(field: str, changes: dict[str, Any]) -> None:
    found = block_differences([BLOCK, block(**changes)])
    assert [one.field for one in found] == [field]
    assert found[0].forbids()
    for name in (field, field.partition(".")[0]):
        allowed = block_differences([BLOCK, block(**changes)], allow=[name])
        assert allowed[0].is_allowed
        assert not allowed[0].forbids()


def test_the_model_is_what_is_compared_and_circumstances_are_told() -> None:
    other = block(
        model={"name": "b", "weights_sha256": "8" * 64},
        packages={"numpy": "2.4"},
        python="3.12",
        hardware={"cpu": "y", "gpus": []},
        commit="def",
        seeds={"sampling": 1},
    )
    found = block_differences([BLOCK, other])
    assert {one.field for one in found if one.kind == "compared"} == {"model.name", "model.weights_sha256"}
    assert {one.field for one in found if one.kind == "circumstance"} == {
        *("packages.numpy", "python", "hardware.cpu", "commit", "seeds.sampling")
    }
    assert not any(one.forbids() for one in found)
    assert sum(one.forbids(strict=True) for one in found) == 5


def test_what_an_older_file_does_not_say_is_unknown_and_not_taken_to_agree() -> None:
    older = block(metric_version=None, chat_template=None, top_k=None, encoder=None)
    found = {one.field: one for one in block_differences([older, BLOCK])}
    assert found["metric_version"].values == ("unknown", "1")
    assert found["metric_version"].forbids()
    assert "top_k" not in found, "it stands among the limits too"
    assert "encoder" not in found, "it follows from the index"
    both = {one.field: one for one in block_differences([older, dict(older)])}
    assert both["metric_version"].kind == "unknown"
    assert not both["metric_version"].forbids()


def test_a_missing_part_of_a_field_is_none_and_a_missing_field_unknown() -> None:
    found = {one.field: one.values for one in block_differences([BLOCK, block(index=None)])}
    assert found["index.index_hash"] == ("1" * 64, "unknown")
    parted = {one.field: one.values for one in block_differences([BLOCK, block(limits={"top_k": 3})])}
    assert parted["limits.max_turns"] == ("4", "none")


def test_three_runs_stand_beside_each_other() -> None:
    found = block_differences([BLOCK, block(top_k=5), BLOCK])
    assert difference_lines(found, ["a", "b", "c"]) == ["top_k: a 3, b 5, c 3"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--allow names 'topk'.*they have model, index"):
        block_differences([BLOCK, block(top_k=5)], allow=["topk"])


def test_real_blocks_have_every_field_that_is_looked_for() -> None:
    made = comparability_block(model="x/y", limits={"top_k": 3}, seeds=[0])
    for field in ("encoder", "top_k", "passage_format", "chat_template", "metric_version"):
        assert field in made
    assert {one.kind for one in block_differences([made, dict(made)])} <= {"unknown"}
