"""Exact search with torch: a matrix product and a top-k, chunk by chunk, on a CPU or a GPU, without faiss.

On a CPU the embeddings stay mapped, and each chunk is widened to float32 where they are stored in half precision. On a
GPU they are copied there once, in half precision where `dtype` or the file says so, and read once for every batch of
queries: the memory bandwidth is the limit. What is found is scored once more in float32.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from retrieval.dense.building import (
    ENCODER_LIBRARIES,
    ENCODING,
    OPEN_SETTINGS,
    DenseBuilder,
    DenseSettings,
    ray_resources,
)
from retrieval.dense.embeddings import Embeddings, Precision, open_embeddings
from retrieval.dense.ranking import MARGIN, Ranked, best_of_candidates, best_rows, in_order
from retrieval.dense.searching import DenseSearcher, open_encoder
from retrieval.passage import Passage
from retrieval.searcher import Backend

if TYPE_CHECKING:
    import torch

_GROUP = 64
"""Scores whose largest stands for all of them in the first round of a top-k."""
_SCORES_AT_ONCE = 1 << 27
_ROWS_A_COPY = 1 << 18
_HALF_DEPTH = 4
"""How many times `k` rows are looked at where scores are rounded to half precision."""


class TorchExactSettings(DenseSettings):
    """Settings of the `torch_exact` backend."""

    device: str | None = None
    """Where it searches: `cpu`, `cuda`, `cuda:1`; None takes a GPU where there is one that has room."""
    dtype: Precision | None = None
    """Precision of the products; None takes that of the embeddings on a GPU, and float32 on a CPU."""
    chunk_passages: int | None = Field(default=None, ge=1)
    """Passages scored at once; None takes as many as make 2^27 scores with the batch, 2^18 at most on a CPU."""


class TorchVectors:
    """Exact nearest rows by inner product. Thread-safe.

    Args:
        embeddings: `[num_passages, dimension]`, mapped or in memory, or already a tensor on its device.
        device: where to search; None takes a GPU where there is one that has room.
        dtype: precision of the products.
        chunk_passages: rows scored at once.

    Raises:
        ValueError: the device is not there, or has no room.
    """

    def __init__(
        self,
        embeddings: "Embeddings | torch.Tensor",
        *,
        device: str | None = None,
        dtype: Precision | None = None,
        chunk_passages: int | None = None,
    ) -> None:
        import torch

        self._torch = torch
        self._rows: Embeddings | None = None
        if isinstance(embeddings, torch.Tensor):
            self._matrix = embeddings if dtype is None else embeddings.to(getattr(torch, dtype))
        else:
            self._matrix = _placed(embeddings, device, dtype)
            self._rows = embeddings
        self.device = self._matrix.device
        on_cpu = self.device.type == "cpu"
        self.dtype = getattr(torch, dtype) if dtype else torch.float32 if on_cpu else self._matrix.dtype
        self.num_rows: int = self._matrix.shape[0]
        self.dimension: int = self._matrix.shape[1]
        self._chunk_passages = chunk_passages
        self._most_rows = 1 << 18 if on_cpu else len(self._matrix)

    def nearest(self, vectors: NDArray[np.float32], k: int) -> list[Ranked]:
        """The best `k` rows of each of `vectors`, `[num_queries, dimension]`, best first, equal scores by row.

        In half precision, the best of 4 `k` + 16 candidates.
        """
        half = self.dtype != self._torch.float32
        depth = min(k * _HALF_DEPTH + MARGIN if half else k + MARGIN, len(self._matrix))
        if self._rows is None or self.device.type != "cpu":
            return self._ranked_on_device(vectors, k, depth)
        if half:
            return best_of_candidates(vectors, k, self.candidates, self._rows, depth)
        return best_rows(vectors, k, self.candidates, self._rows)

    def candidates(self, vectors: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
        """The `depth` rows with the largest products, `[num_queries, depth]`, as the precision rounds them."""
        rows: NDArray[np.int64] = self._best(vectors, depth).cpu().numpy()
        return rows

    def _best(self, vectors: NDArray[np.float32], depth: int) -> Any:
        torch = self._torch
        with torch.inference_mode():
            queries = torch.from_numpy(np.ascontiguousarray(vectors)).to(self.device, self.dtype)
            chunk = self._chunk_passages or max(
                _GROUP, min(self._most_rows, _SCORES_AT_ONCE // max(1, len(queries))) // _GROUP * _GROUP
            )
            scores = torch.empty((len(queries), 0), dtype=self.dtype, device=self.device)
            rows = torch.empty((len(queries), 0), dtype=torch.int64, device=self.device)
            for first in range(0, len(self._matrix), chunk):
                products = queries @ self._matrix[first : first + chunk].to(self.dtype).T
                found, places = top_of(products, min(depth, products.shape[1]))
                scores = torch.cat([scores, found], dim=1)
                rows = torch.cat([rows, places + first], dim=1)
                if scores.shape[1] > depth:
                    scores, order = torch.topk(scores, depth, dim=1)
                    rows = torch.gather(rows, 1, order)
        return rows

    def _ranked_on_device(self, vectors: NDArray[np.float32], k: int, depth: int) -> list[Ranked]:
        """Score the candidates in float32 where the matrix is, and bring rows and scores over."""
        torch = self._torch
        with torch.inference_mode():
            rows = self._best(vectors, depth)
            queries = torch.from_numpy(np.ascontiguousarray(vectors)).to(self.device)
            exact = (self._matrix[rows].float() * queries[:, None, :]).sum(dim=2)
            pairs = zip(rows.cpu().numpy(), exact.cpu().numpy(), strict=True)
        return [in_order(found, scores, k) for found, scores in pairs]


def top_of(scores: "torch.Tensor", k: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """The `k` largest of each row of `[num_rows, num_scores]` and their places, as `torch.topk`, unsorted.

    The largest `k` lie in the `k` groups with the largest maxima, so that the costly selection sees one number a group.
    """
    import torch

    num_scores = scores.shape[1]
    groups = num_scores // _GROUP
    if groups < 4 * k:
        return torch.topk(scores, k, dim=1, sorted=False)
    grouped = scores[:, : groups * _GROUP].unflatten(1, (groups, _GROUP))
    best = torch.topk(grouped.amax(dim=2), k, dim=1, sorted=False).indices
    inside = torch.arange(_GROUP, device=scores.device)
    places = (best[:, :, None] * _GROUP + inside).flatten(1)
    rest = torch.arange(groups * _GROUP, num_scores, device=scores.device).expand(len(scores), -1)
    places = torch.cat([places, rest], dim=1)
    values, order = torch.topk(torch.gather(scores, 1, places), k, dim=1, sorted=False)
    return values, torch.gather(places, 1, order)


def _placed(embeddings: Embeddings, device: str | None, dtype: Precision | None) -> Any:
    """The embeddings as a tensor: on a CPU their own mapped memory, on a GPU a copy."""
    import torch

    kept = getattr(torch, dtype or str(embeddings.dtype))
    needed = embeddings.size * kept.itemsize
    chosen = _device(device, needed)
    if chosen.type == "cpu":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the mapped memory is read-only, and only read
            return torch.from_numpy(embeddings)
    placed = torch.empty(embeddings.shape, dtype=kept, device=chosen)
    for first in range(0, len(embeddings), _ROWS_A_COPY):
        rows = torch.from_numpy(np.array(embeddings[first : first + _ROWS_A_COPY]))
        placed[first : first + len(rows)] = rows.to(kept)
    return placed


def _device(name: str | None, needed: int) -> Any:
    import torch

    if name is None:
        fits = torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > needed * 1.1 + (2 << 30)
        return torch.device("cuda" if fits else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is {name!r}; give cpu, cuda or cuda:N, or leave it out ({error})") from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device is {name}, and torch sees no CUDA GPU here; set device=cpu, or leave it out")
        free = torch.cuda.mem_get_info(chosen)[0]
        if free < needed:
            raise ValueError(
                f"the embeddings take {needed / 1e9:.1f} GB, and {name} has {free / 1e9:.1f} GB free; set "
                "dtype=float16 or device=cpu, or use the backend ivf_sq8"
            )
    return chosen


def _open(folder: Path, settings: TorchExactSettings, passages: Iterable[Passage]) -> DenseSearcher:
    encoder = open_encoder(folder, settings.encoder, passages)
    vectors = TorchVectors(
        open_embeddings(folder), device=settings.device, dtype=settings.dtype, chunk_passages=settings.chunk_passages
    )
    return DenseSearcher(encoder, vectors)


TORCH_EXACT = Backend(
    name="torch_exact",
    settings=TorchExactSettings,
    libraries=ENCODER_LIBRARIES,
    builder=DenseBuilder,
    open=_open,
    extra="dense",
    resources=ray_resources,
    shard_stage=ENCODING,
    open_settings=OPEN_SETTINGS | {"device", "dtype", "chunk_passages"},
)
