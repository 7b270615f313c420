"""What encoding and indexing a large corpus will need, from texts that are encoded to measure it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from retrieval.build.memory import in_words, peak_bytes
from retrieval.dense.encoder import Encoder
from retrieval.searcher import Estimate

_MEASURED_SECONDS = 10.0
_MOST_MEASURED = 2048
_DISK_BYTES_A_SECOND = 300e6
_ACTIVATION_BYTES = 40
"""Working memory of the encoder, for each token of a batch and each number of its hidden size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexCost:
    """What an index over embeddings takes beyond the embeddings."""

    ram_bytes: int = 0
    disk_bytes: int = 0
    seconds: float = 0.0
    details: Mapping[str, str] = field(default_factory=dict)


def estimate_dense(
    encoder: Encoder,
    sample: Sequence[str],
    num_passages: int,
    *,
    shard_passages: int,
    bytes_a_number: int,
    keeps_embeddings: bool,
    index: IndexCost,
    held_before: int,
) -> Estimate:
    """What `num_passages` passages like the sample will need of memory, disk and time.

    `held_before` is the memory of this process before it loaded the encoder: what it has come to hold beyond that is
    what a worker will, libraries included.
    """
    rate = passages_a_second(encoder, sample)
    vectors = num_passages * encoder.dimension * bytes_a_number
    tokens = encoder.settings.batch_size * (encoder.settings.max_length or 512)
    encoding = max(peak_bytes() - held_before, encoder.num_bytes + tokens * encoder.dimension * _ACTIVATION_BYTES)
    shard = min(num_passages, shard_passages)
    texts = sum(map(len, sample)) / len(sample) * shard * 2
    worker = encoding + texts + 8 * shard * encoder.dimension
    kept = vectors if keeps_embeddings else 0
    return Estimate(
        ram_bytes=round(max(worker, encoding + index.ram_bytes)),
        worker_ram_bytes=round(worker),
        disk_bytes=kept + index.disk_bytes,
        peak_disk_bytes=vectors + kept + index.disk_bytes + 4 * num_passages,
        shard_seconds=num_passages / rate,
        merge_seconds=index.seconds + 2 * vectors / _DISK_BYTES_A_SECOND,
        details={
            "encoder": f"{encoder.settings.model}, {encoder.dimension} dimensions, {rate:,.0f} passages/s a worker",
            "embeddings": in_words(vectors) + ("" if keeps_embeddings else ", not kept"),
            **index.details,
        },
    )


def passages_a_second(encoder: Encoder, sample: Sequence[str]) -> float:
    """The rate of encoding, measured for about 10 seconds on texts from all over the sample, batched by length."""
    texts = [text for text in sample if text.strip()] or ["empty"]
    texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:_MOST_MEASURED]]
    encoder.passages(texts[:8])  # the first call sets buffers up
    rate = _rate(encoder, texts[: encoder.settings.batch_size])
    return _rate(encoder, texts[: max(8, round(rate * _MEASURED_SECONDS))])


def _rate(encoder: Encoder, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    encoder.passages(texts)
    return len(texts) / max(time.perf_counter() - started, 1e-9)
