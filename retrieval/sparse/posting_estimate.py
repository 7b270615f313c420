"""What the postings of a large corpus will need, worked out from a sample that is built for it.

Postings and words grow with the passages; the vocabulary grows more slowly, as a power of them (Heaps' law, fitted on
halves of the sample).
"""

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.build.memory import resident_bytes
from retrieval.build.work import BuildWork, Marks
from retrieval.searcher import Estimate, Shard
from retrieval.sparse.posting_merge import DEFAULT_BUFFERED_POSTINGS, LEAST_BUFFERED_POSTINGS, POSTING_BYTES
from retrieval.sparse.posting_part import read_terms

if TYPE_CHECKING:
    from retrieval.searcher import IndexBuilder

_VOCABULARY_BYTES = 190
"""Memory of a term at the merge: dict entry, string and number."""
_CACHED_WORD_BYTES = 220
_MOST_CACHED_WORDS = 1_000_000
_ARRAY_BYTES = 32
"""Memory of a term in the arrays of the merge: frequency, start, head, IDF."""


def estimate_postings(
    builder: "IndexBuilder", sample: Sequence[str], num_passages: int, ram_bytes: int | None
) -> Estimate:
    """What `num_passages` passages like the sample will need of memory, disk and time."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        builder.build_part(sample[:10], folder / "warm")  # loads the compiled loops
        _merged(builder, folder, "warm", min(10, len(sample)), None)
        half, _, _ = _measured_part(builder, folder, "half", sample[: max(1, len(sample) // 2)])
        vocabulary, num_postings, shard_seconds = _measured_part(builder, folder, "whole", sample)
        part_bytes = (folder / "whole").stat().st_size
        merge_seconds = _merged(builder, folder, "whole", len(sample), None)
    scale = num_passages / len(sample)
    growth = min(1.0, max(0.0, math.log2(max(vocabulary, 1) / max(half, 1))))
    terms = vocabulary * scale**growth
    postings = num_postings * scale
    term_bytes = 30  # one line of the vocabulary and a place in the array of starts
    disk = postings * POSTING_BYTES + terms * term_bytes
    parts = part_bytes * scale
    shard = min(num_passages, builder.shard_size())
    text_bytes = sum(map(len, sample)) / len(sample) * shard * 1.2
    shard_bytes = text_bytes + 6 * part_bytes * shard / len(sample)
    words = min(_MOST_CACHED_WORDS, 1.5 * terms) * _CACHED_WORD_BYTES
    fixed = words + terms * (_VOCABULARY_BYTES + _ARRAY_BYTES)
    buffer = min(postings, _buffered(ram_bytes, fixed)) * POSTING_BYTES
    ram = max(words + shard_bytes, fixed + buffer)
    return Estimate(
        ram_bytes=round(ram),
        worker_ram_bytes=round(words + shard_bytes),
        disk_bytes=round(disk),
        peak_disk_bytes=round(disk + parts),
        shard_seconds=shard_seconds * scale,
        merge_seconds=merge_seconds * scale,
        details={"postings": f"{postings:,.0f}", "terms": f"{terms:,.0f} (grow with passages^{growth:.2f})"},
    )


def _buffered(ram_bytes: int | None, fixed: float) -> float:
    if ram_bytes is None:
        return DEFAULT_BUFFERED_POSTINGS
    return max(LEAST_BUFFERED_POSTINGS, (ram_bytes - resident_bytes() - fixed) / POSTING_BYTES)


def _measured_part(builder: "IndexBuilder", folder: Path, name: str, texts: Sequence[str]) -> tuple[int, int, float]:
    """Distinct terms, postings and seconds of a part."""
    started = time.perf_counter()
    builder.build_part(texts, folder / name)
    seconds = time.perf_counter() - started
    terms, frequencies, _ = read_terms(folder / name)
    return len(terms), int(np.sum(frequencies)), seconds


def _merged(builder: "IndexBuilder", folder: Path, name: str, count: int, ram_bytes: int | None) -> float:
    """Seconds to merge one part into a folder of its own."""
    out = folder / f"{name}.merged"
    out.mkdir()
    (folder / name).rename(out / "00000000")
    started = time.perf_counter()
    try:
        builder.merge(
            BuildWork(
                folder=out,
                parts=out,
                shards=[Shard(number=0, first=0, count=count)],
                num_passages=count,
                ram_bytes=ram_bytes,
                progress=lambda stage, done, total: None,
                marks=Marks(out / "marks"),
            )
        )
    except ValueError:  # a sample without a term: the build itself will say so
        return 0.0
    finally:
        (out / "00000000").rename(folder / name)
    return time.perf_counter() - started
