"""Embeddings that another index over the same passages already has: another kind of index without encoding again.

>>> build_index("corpus.jsonl.gz", "pq", backend="ivf_pq",
...             settings={"encoder": {"model": "models/e5"}, "embeddings_from": "flat"})         # doctest: +SKIP
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.dense.embeddings import EMBEDDINGS_FILE, open_embeddings
from retrieval.manifest import read_manifest, verify_file
from retrieval.passage_store import PassageStore

if TYPE_CHECKING:
    from retrieval.dense.building import DenseSettings

_DECIDES_EMBEDDINGS = ("passage_prefix", "pooling", "normalize", "max_length")


class EncodedIndex:
    """The embeddings of an index folder by the texts of its passages, which are asked for in corpus order.

    Raises:
        FileNotFoundError: no finished index there.
        ValueError: it has no embeddings, in less precision than asked for, or texts went in another way.
    """

    def __init__(self, folder: Path, settings: "DenseSettings") -> None:
        manifest = read_manifest(folder)
        if EMBEDDINGS_FILE not in manifest.files:
            raise ValueError(
                f"embeddings_from is {folder}, an index of backend {manifest.backend}, which keeps no embeddings; "
                "name one of flat, torch_exact, hnsw, ivf_sq8 or ivf_pq"
            )
        theirs, ours = manifest.settings["encoder"], settings.encoder.model_dump()
        different = [
            f"encoder.{name} ({theirs[name]!r} there, {ours[name]!r} here)"
            for name in _DECIDES_EMBEDDINGS
            if theirs[name] != ours[name]
        ]
        if (manifest.settings["embeddings"], settings.embeddings) == ("float16", "float32"):
            different.append("embeddings ('float16' there, 'float32' here)")
        if different:
            raise ValueError(
                f"embeddings_from is {folder}, whose embeddings are others: they differ in {', '.join(different)}"
            )
        self._folder = folder
        self._manifest = manifest
        self._is_verified = False
        self._embeddings = open_embeddings(folder)
        self._passages = PassageStore(folder)
        self._next = 0

    def passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The embeddings of consecutive passages, `[len(texts), dimension]`.

        The first call compares the file of embeddings with its checksum, which reads it once.

        Raises:
            ValueError: the index does not hold these passages one after the other.
            IndexCorruptError: the embeddings were changed after that index was built.
        """
        if not self._is_verified:
            verify_file(self._folder, self._manifest, EMBEDDINGS_FILE)
            self._is_verified = True
        for first in self._places(texts[0]):
            last = first + len(texts)
            if last <= len(self._passages) and all(
                self._passages[first + i].contents == text for i, text in enumerate(texts)
            ):
                self._next = last
                return np.ascontiguousarray(self._embeddings[first:last], dtype=np.float32)
        raise ValueError(
            f"embeddings_from is {self._folder}, which is not over this corpus: it lacks the {len(texts)} passages "
            f"that begin with {texts[0]!r:.60}; leave embeddings_from out to encode them"
        )

    def _places(self, text: str) -> Iterator[int]:
        """Rows with this text, those behind the last call's first."""
        rows = itertools.chain(range(self._next, len(self._passages)), range(self._next))
        return (row for row in rows if self._passages[row].contents == text)
