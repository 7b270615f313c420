"""What each family of encoders wants done with its texts, as data; and the settings that name an encoder.

An encoder is named by a Hugging Face id or a folder. Where the last part of that name is in the table, its row fills
every field that was not given; a fine-tuned copy in a folder of another name says `preset: e5-base-v2`. What neither
the call nor a preset says is taken from the model's own files.

>>> EncoderSettings(model="intfloat/e5-base-v2").query_prefix
'query: '
>>> EncoderSettings(model="models/mine", preset="bge-base-en-v1.5", query_prefix="").pooling
'cls'
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Pooling = Literal["cls", "mean", "max", "lasttoken"]

_E5 = {
    "query_prefix": "query: ",
    "passage_prefix": "passage: ",
    "pooling": "mean",
    "normalize": True,
    "max_length": 512,
}
_BGE = {
    "query_prefix": "Represent this sentence for searching relevant passages: ",
    "passage_prefix": "",
    "pooling": "cls",
    "normalize": True,
    "max_length": 512,
}
_MINILM = {"query_prefix": "", "passage_prefix": "", "pooling": "mean", "normalize": True, "max_length": 256}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "e5-small-v2": _E5,
    "e5-base-v2": _E5,
    "e5-large-v2": _E5,
    "multilingual-e5-small": _E5,
    "multilingual-e5-base": _E5,
    "multilingual-e5-large": _E5,
    "bge-small-en-v1.5": _BGE,
    "bge-base-en-v1.5": _BGE,
    "bge-large-en-v1.5": _BGE,
    "all-MiniLM-L6-v2": _MINILM,
}
"""Fields by preset, as the model cards of intfloat, BAAI and sentence-transformers ask."""


class EncoderSettings(BaseModel):
    """Which encoder, and how texts go into it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default="intfloat/e5-base-v2", min_length=1)
    """A Hugging Face id or a folder; the default is the encoder of most published search agents."""
    preset: str | None = None
    """Row of the table that fills the fields not given; None looks for the last part of `model`."""
    query_prefix: str | None = None
    """Put before every query; None takes the preset's, else the prompt `query` of the model's own files."""
    passage_prefix: str | None = None
    """Put before every passage; None takes the preset's, else the model's prompt `document` or `passage`."""
    pooling: Pooling | None = None
    """How token vectors become one; None takes the preset's, else what the model's own files say."""
    normalize: bool = True
    """Scale every vector to length 1, so that scores are cosines."""
    max_length: int | None = Field(default=None, ge=4)
    """Tokens a text, longer ones are cut; None takes the preset's, else the model's own limit."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision the encoder computes in; half is for GPUs."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`; None takes a GPU where there is one."""
    batch_size: int = Field(default=64, ge=1)
    """Texts a forward pass."""
    revision: str | None = None
    """Commit or tag of a Hugging Face id."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        """Put the preset's fields where none were given, so that an index records what was really used."""
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset")
        if preset is None:
            name = values.get("model", cls.model_fields["model"].default)
            preset = _preset_of(name) if isinstance(name, str) else None
        elif not isinstance(preset, str) or preset not in PRESETS:
            raise ValueError(f"no encoder preset {preset!r}; there are {', '.join(PRESETS)}")
        given = {name: value for name, value in values.items() if value is not None}
        return {**PRESETS.get(preset or "", {}), **given, "preset": preset}

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        kind = (self.device or "cpu").partition(":")[0]
        if kind not in ("cpu", "cuda", "mps", "xpu"):
            raise ValueError(f"encoder device is {self.device!r}; give cpu, cuda, cuda:N, mps or xpu, or leave it out")
        return self


def _preset_of(model: str) -> str | None:
    name = PurePath(model).name.lower()
    return next((preset for preset in PRESETS if preset.lower() == name), None)
