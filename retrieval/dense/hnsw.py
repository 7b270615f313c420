"""Approximate search over a navigable graph, FAISS's HNSW (Malkov and Yashunin, 2016, arXiv:1603.09320).

The index folder holds the embeddings, and the graph without them: opening maps both, so nothing is stored or held
twice. What the graph finds is scored from the embeddings. A graph that several threads build is not the same twice;
a build that was broken off builds it again, from the saved embeddings.
"""

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from retrieval.build.durable import flush
from retrieval.build.memory import check_room, in_words
from retrieval.build.work import BuildWork
from retrieval.dense.building import (
    ENCODER_LIBRARIES,
    ENCODING,
    OPEN_SETTINGS,
    DenseBuilder,
    DenseSettings,
    ray_resources,
)
from retrieval.dense.embeddings import Embeddings, Parts, open_embeddings
from retrieval.dense.estimate import IndexCost
from retrieval.dense.faiss_library import faiss_distribution, import_faiss
from retrieval.dense.ranking import MARGIN, Ranked, best_of_candidates, best_rows
from retrieval.dense.searching import DenseSearcher, open_encoder
from retrieval.manifest import IndexCorruptError
from retrieval.passage import Passage
from retrieval.searcher import Backend

GRAPH_FILE = "hnsw.faiss"

_MEASURED_ROWS = 4000


class HnswSettings(DenseSettings):
    """Settings of the `hnsw` backend."""

    links: int = Field(default=32, ge=2, le=256)
    """Neighbours a vector keeps in each upper layer, twice as many in the lowest (FAISS's M): more is more exact."""
    ef_construction: int = Field(default=100, ge=1)
    """Candidates looked at for the neighbours of a new vector: more is a better graph, built more slowly."""
    ef_search: int = Field(default=64, ge=1)
    """Candidates looked at for a query, at least as many as it asks for: more is more exact and slower."""


class HnswBuilder(DenseBuilder):
    """Adds the embeddings, shard by shard, to a graph that is held in memory with them until it is written."""

    settings: HnswSettings

    def write_index(self, work: BuildWork, parts: Parts) -> None:
        """Build the graph and write it without its vectors.

        Raises:
            ValueError: `work.ram_bytes` has no room for the vectors and the graph.
        """
        if work.done("graph"):
            return
        check_room(
            work.ram_bytes,
            self._ram_bytes(parts.num_rows, parts.dimension),
            f"a graph over {work.num_passages:,} vectors, which are held while it is built",
            advice=", or use the backend ivf_sq8, which merges on disk",
        )
        faiss = import_faiss()
        index = self._empty(parts.dimension)
        for first, vectors in parts.blocks():
            index.add(vectors)
            work.progress("linking vectors", first + len(vectors), parts.num_rows)
        faiss.write_index(index, str(work.folder / GRAPH_FILE), faiss.IO_FLAG_SKIP_STORAGE)
        flush(work.folder / GRAPH_FILE)
        work.mark("graph")

    def index_cost(self, num_passages: int, dimension: int, *, counted: bool = True) -> IndexCost:
        """Memory and disk of the graph, and the time to link, which is measured on random vectors."""
        rows = min(num_passages, _MEASURED_ROWS)
        vectors = np.random.default_rng(0).standard_normal((rows, dimension), dtype=np.float32)
        index = self._empty(dimension)
        started = time.perf_counter()
        index.add(vectors)
        seconds = (time.perf_counter() - started) * num_passages / rows
        seconds *= max(1.0, math.log(num_passages + 1) / math.log(rows + 1))
        return IndexCost(
            ram_bytes=self._ram_bytes(num_passages, dimension),
            disk_bytes=num_passages * self._graph_bytes(),
            seconds=seconds,
            details={"graph": f"{self.settings.links} links, {in_words(num_passages * self._graph_bytes())}"},
        )

    def _empty(self, dimension: int) -> Any:
        faiss = import_faiss()
        index = faiss.IndexHNSWFlat(dimension, self.settings.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.settings.ef_construction
        return index

    def _graph_bytes(self) -> int:
        """Bytes of the graph a vector: its links in the lowest layer, and the few that it has above."""
        return round(4 * self.settings.links * (2 + 1 / (self.settings.links - 1))) + 16

    def _ram_bytes(self, num_rows: int, dimension: int) -> int:
        """The vectors, which grow by copying, and the graph."""
        return num_rows * (round(4 * dimension * 1.5) + round(self._graph_bytes() * 1.5))


class HnswVectors:
    """The mapped graph over the mapped embeddings. Thread-safe.

    Raises:
        IndexCorruptError: the graph is not one over these embeddings.
    """

    def __init__(self, graph: Path, embeddings: Embeddings, ef_search: int) -> None:
        self._faiss = import_faiss()
        self._embeddings = embeddings
        self._ef_search = ef_search
        self.num_rows, self.dimension = embeddings.shape
        try:
            self._index = self._faiss.read_index(str(graph), self._faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise IndexCorruptError(f"{graph} cannot be read ({error}); build the index again") from None
        if (self._index.ntotal, self._index.d) != embeddings.shape:
            raise IndexCorruptError(
                f"{graph} is a graph over {self._index.ntotal} vectors of {self._index.d} numbers, the embeddings are "
                f"{embeddings.shape}; build the index again"
            )
        self._storage = _storage_over(self._faiss, embeddings)
        self._index.storage = self._storage
        self._index.own_fields = False

    def nearest(self, vectors: NDArray[np.float32], k: int) -> list[Ranked]:
        """The best `k` rows found for each of `vectors`, `[num_queries, dimension]`.

        The graph may lead to fewer than `k`, which is rare; those queries are searched exactly.
        """
        found = best_of_candidates(vectors, k, self.candidates, self._embeddings, k + MARGIN)
        short = [i for i, (rows, _) in enumerate(found) if len(rows) < k]
        if short:
            exact = best_rows(vectors[short], k, self._exact_candidates, self._embeddings)
            for i, ranked in zip(short, exact, strict=True):
                found[i] = ranked
        return found

    def candidates(self, vectors: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
        """The `depth` best rows that the graph finds, `[num_queries, depth]`, -1 for none."""
        parameters = self._faiss.SearchParametersHNSW(efSearch=max(self._ef_search, depth))
        rows: NDArray[np.int64] = self._index.search(vectors, depth, params=parameters)[1]
        return rows

    def _exact_candidates(self, vectors: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self._storage.search(vectors, depth)[1]
        return rows


def _storage_over(faiss: Any, embeddings: Embeddings) -> Any:
    """A flat FAISS index whose vectors are the mapped embeddings; half precision is searched as such."""
    half = embeddings.dtype == np.float16
    if half:
        storage = faiss.IndexScalarQuantizer(
            embeddings.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        storage.is_trained = True
    else:
        storage = faiss.IndexFlatIP(embeddings.shape[1])
    storage.codes = _view(faiss, embeddings)
    storage.ntotal = len(embeddings)
    return storage


def _view(faiss: Any, embeddings: Embeddings) -> Any:
    """The memory of the embeddings as FAISS's vector of bytes, neither copied nor owned."""
    address = faiss.cast_integer_to_uint8_ptr(embeddings.ctypes.data)
    view = faiss.MaybeOwnedVectorUInt8()
    view.is_owned = False
    view.view_data = view.c_ptr = address
    view.view_size = view.c_size = embeddings.nbytes
    return view


def _open(folder: Path, settings: HnswSettings, passages: Iterable[Passage]) -> DenseSearcher:
    encoder = open_encoder(folder, settings.encoder, passages)
    vectors = HnswVectors(folder / GRAPH_FILE, open_embeddings(folder), settings.ef_search)
    return DenseSearcher(encoder, vectors)


HNSW = Backend(
    name="hnsw",
    settings=HnswSettings,
    libraries=(*ENCODER_LIBRARIES, faiss_distribution()),
    builder=HnswBuilder,
    open=_open,
    extra="dense",
    resources=ray_resources,
    shard_stage=ENCODING,
    prefix_exact=False,
    open_settings=OPEN_SETTINGS | {"ef_search"},
)
