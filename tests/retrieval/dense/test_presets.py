"""What goes around a text is data: filled in by the encoder's name, overridden field by field, kept in the manifest."""

import pytest

from retrieval.dense.flat import FLAT
from retrieval.dense.presets import PRESETS, EncoderSettings


@pytest.mark.parametrize(
    ("model", "query", "passage", "pooling", "max_length"),
    [
        ("intfloat/e5-base-v2", "query: ", "passage: ", "mean", 512),
        ("intfloat/multilingual-e5-small", "query: ", "passage: ", "mean", 512),
        ("models/E5-Large-v2", "query: ", "passage: ", "mean", 512),
        ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", "", "cls", 512),
        ("sentence-transformers/all-MiniLM-L6-v2", "", "", "mean", 256),
    ],
)
def test_the_name_of_a_known_encoder_is_enough(
    model: str, query: str, passage: str, pooling: str, max_length: int
) -> None:
    found = EncoderSettings(model=model)
    assert (found.query_prefix, found.passage_prefix, found.pooling, found.max_length) == (
        query,
        passage,
        pooling,
        max_length,
    )
    assert found.normalize and found.preset in PRESETS


def test_every_field_of_a_preset_can_be_overridden_alone() -> None:
    found = EncoderSettings(model="models/mine", preset="bge-base-en-v1.5", query_prefix="", normalize=False)
    assert (found.query_prefix, found.pooling, found.normalize, found.max_length) == ("", "cls", False, 512)
    assert EncoderSettings(model="intfloat/e5-base-v2", max_length=256).passage_prefix == "passage: "
    assert EncoderSettings(model="intfloat/e5-base-v2", pooling="cls", max_length=64).pooling == "cls"


def test_an_unknown_encoder_says_nothing_and_takes_what_its_files_say() -> None:
    found = EncoderSettings(model="models/mine")
    assert (found.preset, found.query_prefix, found.passage_prefix, found.pooling, found.max_length) == (None,) * 5


def test_a_misspelt_preset_field_or_device_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no encoder preset 'e5'; there are e5-small-v2, e5-base-v2"):
        EncoderSettings(model="models/mine", preset="e5")
    with pytest.raises(ValueError, match="prefix"):
        EncoderSettings.model_validate({"model": "models/mine", "prefix": "query: "})
    with pytest.raises(ValueError, match="device is 'gpu'; give cpu, cuda"):
        EncoderSettings(device="gpu")
    with pytest.raises(ValueError, match="pooling"):
        EncoderSettings.model_validate({"pooling": "median"})


def test_a_manifest_keeps_what_was_used_though_the_table_may_change() -> None:
    settings = FLAT.settings.model_validate({"encoder": {"model": "intfloat/e5-small-v2", "query_prefix": "q: "}})
    kept = settings.model_dump(mode="json")
    assert kept["encoder"]["query_prefix"] == "q: " and kept["encoder"]["passage_prefix"] == "passage: "
    assert FLAT.settings.model_validate(kept) == settings
