"""Approximate search in inverted lists, FAISS's IVF: whole vectors, bytes (SQ8) or product-quantised codes (PQ).

A query looks into the `nprobe` lists whose centres are nearest. The file is mapped, so processes share it. Codes only
find candidates: the best `rerank_depth` of them are scored from the embeddings, which PQ cannot do without (Jégou et
al., 2011, doi:10.1109/TPAMI.2010.57). Two builds with the same settings and number of threads have the same bytes.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from retrieval.build.memory import in_words
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
from retrieval.dense.gpu import ivf_on_gpu
from retrieval.dense.ivf_lists import group_bytes, write_lists
from retrieval.dense.ivf_training import most_lists, number_of_lists, sample_bytes, trained_index, training_rows
from retrieval.dense.ranking import MARGIN, Ranked, in_order, ranked_exactly
from retrieval.dense.searching import DenseSearcher, open_encoder
from retrieval.manifest import IndexCorruptError
from retrieval.passage import Passage
from retrieval.searcher import Backend

LISTS_FILE = "ivf.faiss"

Codes = Literal["flat", "sq8", "pq"]

_PQ_CENTRES = 256
_KMEANS_ROUNDS = 10


class IvfFlatSettings(DenseSettings):
    """Settings of the `ivf_flat` backend, which keeps whole vectors in its lists and no other copy of them."""

    lists: int | None = Field(default=None, ge=1)
    """How many lists, at most an 8th of the number of passages; None takes 4 times the root of it, or that 8th."""
    train_vectors_per_list: int = Field(default=64, ge=1)
    """Size of the sample that the lists are learned from, for each list; FAISS advises 39 to 256."""
    seed: int = Field(default=0, ge=0)
    """Decides the sample and where k-means begins."""
    nprobe: int | None = Field(default=None, ge=1)
    """Lists that a query looks into: more is more exact and slower; None takes 4 times the root of their number."""
    gpu: bool = False
    """Search on a GPU, which holds the lists; needs a faiss built for GPUs."""


class IvfSq8Settings(IvfFlatSettings):
    """Settings of the `ivf_sq8` backend: a byte for each number, a quarter of the memory."""

    rerank_depth: int = Field(default=64, ge=0)
    """Candidates of a query, at least `k`, that are scored from the embeddings; 0 takes the scores of the codes."""


class IvfPqSettings(IvfFlatSettings):
    """Settings of the `ivf_pq` backend: `code_bytes` for a whole vector."""

    code_bytes: int | None = Field(default=None, ge=1)
    """Bytes of a code, a divisor of the encoder's dimension; None takes an eighth of the dimension."""
    rerank_depth: int = Field(default=256, ge=0)
    """Candidates of a query, at least `k`, that are scored from the embeddings; 0 takes the scores of the codes."""


def _check_count(settings: IvfFlatSettings, num_passages: int) -> None:
    number_of_lists(num_passages, settings.lists)
    if isinstance(settings, IvfPqSettings) and num_passages < _PQ_CENTRES:
        raise ValueError(
            f"ivf_pq learns {_PQ_CENTRES} centres for each byte, and the corpus has {num_passages} passages; "
            "use the backend flat, which is exact and fast at that size"
        )


class IvfBuilder(DenseBuilder):
    """Learns the lists from a sample, then writes them; memory is the sample's, not the corpus's."""

    settings: IvfFlatSettings

    def __init__(self, settings: IvfFlatSettings, codes: Codes) -> None:
        super().__init__(settings)
        self._codes = codes
        self.keeps_embeddings = codes != "flat"

    def write_index(self, work: BuildWork, parts: Parts) -> None:
        """Train, and write the lists.

        Raises:
            ValueError: `work.ram_bytes` has no room for the training sample or a group of codes, or the corpus is too
                small for the lists or for PQ.
        """
        if work.done("lists"):
            return
        settings = self.settings
        _check_count(settings, parts.num_rows)
        num_lists = number_of_lists(parts.num_rows, settings.lists)
        rows = self._training_rows(parts.num_rows, num_lists)
        index = trained_index(
            self._empty(parts.dimension, num_lists),
            work,
            parts,
            rows,
            seed=settings.seed,
            cosine=settings.encoder.normalize,
        )
        write_lists(index, work, parts, work.folder / LISTS_FILE)
        work.mark("lists")

    def index_cost(self, num_passages: int, dimension: int, *, counted: bool = True) -> IndexCost:
        """Memory of the training, size of the lists, and the time of both, from a measured matrix product.

        Raises:
            ValueError: the passages were counted, and are too few for the lists.
        """
        wanted, most = self.settings.lists, most_lists(num_passages)
        doubt = ""
        if wanted is not None and wanted > most and not counted:
            doubt = f"; for the {wanted:,} that are asked for the corpus may be too small, which the build will tell"
            wanted = most
        num_lists = number_of_lists(num_passages, wanted)
        sample = len(self._training_rows(num_passages, num_lists))
        code_size = {"flat": 4 * dimension, "sq8": dimension, "pq": self._code_bytes(dimension)}[self._codes]
        codebooks = 4 * _PQ_CENTRES * dimension if self._codes == "pq" else 0
        disk = num_passages * (code_size + 8) + 4 * num_lists * dimension + codebooks
        products = num_lists * dimension * (num_passages + _KMEANS_ROUNDS * sample)
        return IndexCost(
            ram_bytes=max(sample_bytes(sample, dimension), group_bytes(num_passages, dimension, code_size))
            + 4 * num_lists * dimension,
            disk_bytes=disk,
            seconds=products / _products_a_second(dimension),
            details={"lists": f"{num_lists:,}, learned from {sample:,} vectors; {in_words(disk)}{doubt}"},
        )

    def _training_rows(self, num_passages: int, num_lists: int) -> NDArray[np.int64]:
        least = _PQ_CENTRES * 39 if self._codes == "pq" else 0
        settings = self.settings
        return training_rows(num_passages, num_lists, settings.train_vectors_per_list, least, settings.seed)

    def _empty(self, dimension: int, num_lists: int) -> Any:
        faiss = import_faiss()
        metric = faiss.METRIC_INNER_PRODUCT
        quantizer = faiss.IndexFlatIP(dimension)
        if self._codes == "flat":
            index = faiss.IndexIVFFlat(quantizer, dimension, num_lists, metric)
        elif self._codes == "sq8":
            kind = faiss.ScalarQuantizer.QT_8bit
            index = faiss.IndexIVFScalarQuantizer(quantizer, dimension, num_lists, kind, metric)
        else:
            index = faiss.IndexIVFPQ(quantizer, dimension, num_lists, self._code_bytes(dimension), 8, metric)
        index.own_fields = True
        quantizer.this.disown()  # the index frees it
        return index

    def _code_bytes(self, dimension: int) -> int:
        wanted = getattr(self.settings, "code_bytes", None)
        if wanted is not None and dimension % wanted:
            fits = ", ".join(str(n) for n in range(1, dimension + 1) if dimension % n == 0)
            raise ValueError(
                f"code_bytes is {wanted}, no divisor of the encoder's {dimension} dimensions; give one of {fits}"
            )
        return wanted or next(n for n in range(max(1, dimension // 8), 0, -1) if dimension % n == 0)


class IvfVectors:
    """The mapped lists, and the mapped embeddings where candidates are scored from them. Thread-safe.

    Raises:
        IndexCorruptError: the file cannot be read, or is not one over these embeddings.
    """

    def __init__(
        self,
        lists: Path,
        embeddings: Embeddings | None,
        *,
        nprobe: int | None = None,
        rerank_depth: int = 0,
        gpu: bool = False,
    ) -> None:
        self._faiss = import_faiss()
        try:
            index = self._faiss.read_index(str(lists), self._faiss.IO_FLAG_MMAP | self._faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise IndexCorruptError(f"{lists} cannot be read ({error}); build the index again") from None
        if embeddings is not None and (index.ntotal, index.d) != embeddings.shape:
            raise IndexCorruptError(
                f"{lists} holds {index.ntotal} vectors of {index.d} numbers, the embeddings are {embeddings.shape}; "
                "build the index again"
            )
        stored = self._faiss.downcast_InvertedLists(index.invlists)
        if hasattr(stored, "prefetch_nthread"):
            stored.prefetch_nthread = 0  # threads for every search cost more than they save once the file is cached
        self._index = index
        self._embeddings = embeddings
        self._rerank_depth = rerank_depth
        self._num_lists: int = index.nlist
        self.nprobe = min(self._num_lists, nprobe or default_nprobe(self._num_lists))
        self.num_rows: int = index.ntotal
        self.dimension: int = index.d
        index.nprobe = self.nprobe
        self._gpu = ivf_on_gpu(index) if gpu else None

    def nearest(self, vectors: NDArray[np.float32], k: int) -> list[Ranked]:
        """The best `k` rows found for each of `vectors`, `[num_queries, dimension]`, best first, equal scores by row.

        Queries whose lists hold fewer than `k` rows look into twice as many, until there are enough. FAISS keeps any of
        the rows that tie at the end of what it is asked for, so it is asked for 16 more than `k`: of rows with the
        score of the last one given, the lowest are given unless more of them tie than that.
        """
        depth = min(max(k + MARGIN, self._rerank_depth), self._index.ntotal)
        ranked = self._ranked(vectors, k, depth, self.nprobe)
        nprobe = self.nprobe
        while short := [i for i, (rows, _) in enumerate(ranked) if len(rows) < k]:
            nprobe = min(2 * nprobe, self._num_lists)
            for i, found in zip(short, self._ranked(vectors[short], k, depth, nprobe), strict=True):
                ranked[i] = found
            if nprobe == self._num_lists:
                break
        return ranked

    def _ranked(self, vectors: NDArray[np.float32], k: int, depth: int, nprobe: int) -> list[Ranked]:
        if self._gpu is not None and nprobe == self.nprobe:
            scores, rows = self._gpu.search(vectors, depth)
        else:
            scores, rows = self._index.search(vectors, depth, params=self._faiss.SearchParametersIVF(nprobe=nprobe))
        if self._embeddings is None or self._rerank_depth == 0:
            return [in_order(r[r >= 0], s[r >= 0], k) for r, s in zip(rows, scores, strict=True)]
        return ranked_exactly(vectors, rows, self._embeddings, k)


def default_nprobe(num_lists: int) -> int:
    """Lists a query looks into where nothing else is said: 4 times the root of their number.

    That is a fifth of them on 10,000 passages and a thirtieth on 20 million. Questions lie further from passages than
    passages from each other, so that fewer lists lose more than on made-up vectors; a test on real ones holds .97.
    """
    return min(num_lists, math.ceil(4 * math.sqrt(num_lists)))


def _products_a_second(dimension: int) -> float:
    """Multiply-adds a second of this machine's matrix product."""
    left = np.ones((1024, dimension), dtype=np.float32)
    right = np.ones((dimension, 1024), dtype=np.float32)
    left @ right
    started = time.perf_counter()
    rounds = 0
    while rounds < 3 or time.perf_counter() - started < 0.2:
        left @ right
        rounds += 1
    return rounds * 1024 * 1024 * dimension / (time.perf_counter() - started)


def _open(codes: Codes, folder: Path, settings: IvfFlatSettings, passages: Iterable[Passage]) -> DenseSearcher:
    encoder = open_encoder(folder, settings.encoder, passages)
    vectors = IvfVectors(
        folder / LISTS_FILE,
        None if codes == "flat" else open_embeddings(folder),
        nprobe=settings.nprobe,
        rerank_depth=getattr(settings, "rerank_depth", 0),
        gpu=settings.gpu,
    )
    return DenseSearcher(encoder, vectors)


def _backend(name: str, settings: type[IvfFlatSettings], codes: Codes) -> Backend:
    return Backend(
        name=name,
        settings=settings,
        libraries=(*ENCODER_LIBRARIES, faiss_distribution()),
        builder=partial(IvfBuilder, codes=codes),
        open=partial(_open, codes),
        extra="dense",
        resources=ray_resources,
        shard_stage=replace(ENCODING, check_count=_check_count),
        prefix_exact=False,
        open_settings=OPEN_SETTINGS | {"nprobe", "gpu"} | ({"rerank_depth"} & set(settings.model_fields)),
    )


IVF_FLAT = _backend("ivf_flat", IvfFlatSettings, "flat")
IVF_SQ8 = _backend("ivf_sq8", IvfSq8Settings, "sq8")
IVF_PQ = _backend("ivf_pq", IvfPqSettings, "pq")
