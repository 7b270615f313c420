"""A dense index that is open: queries through the encoder, their vectors through the backend's search."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.build.durable import write_whole
from retrieval.dense.encoder import Encoder
from retrieval.dense.presets import EncoderSettings
from retrieval.dense.ranking import Ranked
from retrieval.manifest import IndexCorruptError
from retrieval.passage import Passage

ENCODER_FILE = "encoder.json"

_LEAST_COSINE = 0.99
"""Half precision and other machines move an embedding by a thousandth; another encoder by far more."""


class VectorSearch(Protocol):
    """Ranks rows by their vectors. Thread-safe."""

    dimension: int
    """Numbers in a vector."""
    num_rows: int
    """Vectors that are ranked."""

    def nearest(self, vectors: NDArray[np.float32], k: int) -> list[Ranked]:
        """The best `k` rows of each of `vectors`, `[num_queries, dimension]`."""
        ...


class DenseSearcher:
    """The searcher of every dense backend. Thread-safe.

    Raises:
        ValueError: the encoder's dimension is not that of `vectors`.
    """

    def __init__(self, encoder: Encoder, vectors: VectorSearch) -> None:
        if encoder.dimension != vectors.dimension:
            raise ValueError(wrong_dimension(encoder, vectors.dimension))
        self.encoder = encoder
        self.vectors = vectors

    @property
    def num_rows(self) -> int:
        """Passages that have a vector."""
        return self.vectors.num_rows

    def top_rows(self, queries: Sequence[str], k: int) -> list[Ranked]:
        """For each query the best `k` rows and their scores, best first, equal scores by row."""
        return self.vectors.nearest(self.encoder.queries(queries), k)


def describe_encoder(encoder: Encoder, embedding: NDArray[np.float32], folder: Path) -> None:
    """Write what encoded an index, with the embedding of its first passage, by which the encoder is known again."""
    used = encoder.settings
    description = {
        "model": used.model,
        "revision": used.revision,
        "dimension": encoder.dimension,
        "query_prefix": used.query_prefix,
        "passage_prefix": used.passage_prefix,
        "pooling": used.pooling,
        "normalize": used.normalize,
        "max_length": used.max_length,
        "first_embedding": embedding.tolist(),
    }
    write_whole(folder / ENCODER_FILE, (json.dumps(description, indent=1) + "\n").encode("utf-8"))


def open_encoder(folder: Path, settings: EncoderSettings, passages: Iterable[Passage]) -> Encoder:
    """Load the encoder of an index, and make sure that it is the one that encoded it.

    Raises:
        ValueError: the encoder cannot be loaded, has another dimension, or gives another vector for the first passage.
        IndexCorruptError: `encoder.json` is missing or broken.
    """
    path = folder / ENCODER_FILE
    try:
        description: dict[str, Any] = json.loads(path.read_bytes())
        expected = np.asarray(description["first_embedding"], dtype=np.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexCorruptError(f"{path} cannot be read ({error}); build the index again") from None
    encoder = Encoder(settings)
    first = next(iter(passages), None)
    check_encoder(encoder, first.contents if first else "", expected)
    return encoder


def check_encoder(encoder: Encoder, text: str, embedding: NDArray[np.float32]) -> None:
    """Make sure that an encoder gives, but for rounding, this embedding for this passage; an empty one tells nothing.

    Raises:
        ValueError: another dimension, or another vector.
    """
    if encoder.dimension != len(embedding):
        raise ValueError(wrong_dimension(encoder, len(embedding)))
    if not text.strip():
        return
    found = encoder.passages([text])[0]
    cosine = float(found @ embedding / max(float(np.linalg.norm(found) * np.linalg.norm(embedding)), 1e-30))
    if cosine < _LEAST_COSINE:
        raise ValueError(
            f"the encoder {encoder.settings.model} is not the one that encoded these passages: its vector for one of "
            f"them has cosine {cosine:.3f} with the stored one. Give the encoder of the build (its weights, prefixes "
            "and pooling are part of the index), or build again with this one"
        )


def wrong_dimension(encoder: Encoder, dimension: int) -> str:
    """The message for an encoder whose vectors do not fit."""
    return (
        f"the encoder {encoder.settings.model} gives vectors of {encoder.dimension} numbers, and the index holds "
        f"vectors of {dimension}; give the encoder that the index was built with, or build again"
    )
