"""Building every dense backend: shards become embeddings, the embeddings one file and, for some, an index over them."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from retrieval.build.memory import resident_bytes
from retrieval.build.work import BuildWork
from retrieval.dense.embeddings import EMBEDDINGS_FILE, Parts, Precision, write_part
from retrieval.dense.encoded_index import EncodedIndex
from retrieval.dense.encoder import Encoder, check_model_folder
from retrieval.dense.estimate import IndexCost, estimate_dense
from retrieval.dense.presets import EncoderSettings
from retrieval.dense.searching import check_encoder, describe_encoder
from retrieval.passage import Passage
from retrieval.passage_store import PassageStore
from retrieval.searcher import Estimate, Progress, ShardStage

OPEN_SETTINGS = frozenset(
    f"encoder.{name}" for name in ("model", "revision", "device", "dtype", "batch_size", "trust_remote_code")
)
"""What a search may do with another encoder setting than the build: where its model lies, and how it is run."""

SHARD_PASSAGES = 2048
"""A minute of a laptop, a second of a GPU: what a kill can cost."""

_EMPTY = (
    "has neither title nor text: there is nothing to encode; drop it from the corpus, or set empty_passages=zero to "
    "keep it as one that no query finds"
)

ENCODER_LIBRARIES = ("sentence-transformers", "transformers", "torch", "numpy")


class DenseSettings(BaseModel):
    """What all dense backends can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: EncoderSettings = EncoderSettings()
    """The encoder and how texts go into it."""
    embeddings: Precision = "float32"
    """Precision of the embeddings on disk: float16 halves the file and moves a cosine by less than .001."""
    empty_passages: Literal["refuse", "zero"] = "refuse"
    """What to do with a passage without text: end the build, or give it a vector of zeros, whose scores are all 0."""
    embeddings_from: Path | None = Field(default=None, exclude=True)
    """An index over the same corpus with the same encoder: its embeddings are taken, nothing is encoded again.

    It is no part of what is built, nor of the manifest; `--workers` and Ray do not get it, and encode.
    """


def _stage_name(settings: DenseSettings) -> str:
    return "encoding passages" if settings.embeddings_from is None else "copying embeddings"


def _refusal(settings: DenseSettings, passage: Passage) -> str | None:
    asked = settings.empty_passages == "refuse" and settings.embeddings_from is None
    return _EMPTY if asked and not (passage.text.strip() or passage.title.strip()) else None


ENCODING = ShardStage(name=_stage_name, reads_first=True, refusal=_refusal)
"""A broken line, or a passage that cannot be encoded, is told before hours have gone into the passages before it."""


class DenseBuilder:
    """Encodes shards and joins their embeddings; a backend with an index of its own adds `write_index`.

    Held in memory: the encoder, and the texts and embeddings of a shard.
    """

    keeps_embeddings = True
    """Whether the index folder gets `embeddings.npy`."""

    def __init__(self, settings: DenseSettings) -> None:
        check_model_folder(settings.encoder)
        self.settings = settings
        self.on_progress: Callable[[int], None] | None = None
        source = settings.embeddings_from
        self._encoded = None if source is None else EncodedIndex(source, settings)

    def shard_size(self) -> int:
        """2,048 passages."""
        return SHARD_PASSAGES

    def get_ready(self, progress: Progress) -> None:
        """Load the encoder, where there is something to encode.

        Raises:
            ValueError: it cannot be loaded.
        """
        if self._encoded is None:
            progress("loading encoder", 0, 1)
            _ = self.encoder
            progress("loading encoder", 1, 1)

    def build_part(self, texts: Sequence[str], path: Path) -> None:
        """Write the embeddings of one shard at `path`, an `.npy` `[len(texts), dimension]`.

        Raises:
            ValueError: an empty passage where `empty_passages` refuses them, or an embedding that is not finite.
        """
        if self._encoded is not None:
            write_part(path, self._encoded.passages(texts), self.settings.embeddings)
            return
        spoken = [i for i, text in enumerate(texts) if text.strip()]
        if len(spoken) < len(texts) and self.settings.empty_passages == "refuse":
            empty = next(i for i, text in enumerate(texts) if not text.strip())
            raise ValueError(f"passage {empty} of a shard of {len(texts)} {_EMPTY}")
        vectors = np.zeros((len(texts), self.encoder.dimension), dtype=np.float32)
        vectors[spoken] = self.encoder.passages([texts[i] for i in spoken], on_progress=self.on_progress)
        write_part(path, vectors, self.settings.embeddings)

    def merge(self, work: BuildWork) -> None:
        """Write the embeddings and the index over them.

        Raises:
            ValueError: the encoder was changed in the middle of the build, or `work.ram_bytes` is too little.
        """
        parts = Parts(work)
        if not work.done("encoder"):
            self._describe_encoder(work, parts)
            work.mark("encoder")
        if self.keeps_embeddings and not work.done("embeddings"):
            parts.join(work.folder / EMBEDDINGS_FILE)
            work.mark("embeddings")
        self.write_index(work, parts)

    def write_index(self, work: BuildWork, parts: Parts) -> None:
        """Write what the backend searches beside the embeddings; nothing here."""

    def index_cost(self, num_passages: int, dimension: int, *, counted: bool = True) -> IndexCost:
        """What `write_index` takes; nothing here. Unless `counted`, `num_passages` may be a few per cent off."""
        return IndexCost()

    def estimate(self, sample: Sequence[str], num_passages: int, ram_bytes: int | None) -> Estimate:
        """What a corpus like the sample will need: encodes some of the sample to measure it."""
        held_before = resident_bytes()
        dimension = self.encoder.dimension
        return estimate_dense(
            self.encoder,
            sample,
            num_passages,
            shard_passages=self.shard_size(),
            bytes_a_number=np.dtype(self.settings.embeddings).itemsize,
            keeps_embeddings=self.keeps_embeddings,
            index=self.index_cost(num_passages, dimension, counted=num_passages == len(sample)),
            held_before=held_before,
        )

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The encoder, loaded when it is first needed, and kept."""
        return Encoder(self.settings.encoder)

    def _describe_encoder(self, work: BuildWork, parts: Parts) -> None:
        """Describe the encoder, and make sure that the first and the last shard are its work."""
        encoder = self.encoder if "encoder" in vars(self) else Encoder(_on_this_machine(self.settings.encoder))
        first = parts.block(0)[0]
        passages = PassageStore(work.folder)
        try:
            check_encoder(encoder, passages[0].contents, first)
            check_encoder(encoder, passages[work.num_passages - 1].contents, parts.block(len(work.shards) - 1)[-1])
        finally:
            passages.close()
        describe_encoder(encoder, first, work.folder)


def ray_resources(settings: Any) -> dict[str, float]:
    """A GPU for each shard where the encoder's device is one, else a CPU."""
    return {"num_cpus": 1, "num_gpus": 1} if (settings.encoder.device or "").startswith("cuda") else {"num_cpus": 1}


def _on_this_machine(settings: EncoderSettings) -> EncoderSettings:
    """The settings, on the CPU where the merging machine lacks the GPU that encoded."""
    import torch

    lacks = (settings.device or "").startswith("cuda") and not torch.cuda.is_available()
    return settings.model_copy(update={"device": "cpu"}) if lacks else settings
