"""A key-value cache of slots: each sequence owns a row and fills it from column 0 at its own pace.

transformers' `DynamicCache` keeps all rows at one length, so every step copies the cache to append a column, and
joining or leaving means left-padding the rest. Here a step writes one column per row in place, a new sequence is
written into the next free slot, and rows change places only when the batch says so. A row's column is its token's
position; columns past a row's own length hold stale values, which the attention mask hides.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_COLUMN_STEP = 128


class SlotCache(Cache):
    """Keys and values of at most `max_rows` sequences; rows and columns grow as needed.

    `dtype` is that of the buffers; None takes it from what the model writes first.
    """

    def __init__(self, max_rows: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(layers=[])
        self.max_rows = max_rows
        self.dtype = dtype
        self.rows = (0, 0)  # this forward's rows [first, last)
        self.columns = 0  # width of what attention sees in this forward
        self.past = 0  # columns of it before those that a plain forward of this width would write
        self.row_index: Tensor | None = None  # `[num_rows, 1]`, with `positions` where each token is written
        self.positions: Tensor | None = None  # `[num_rows, num_tokens]`; None: column by column from 0
        self._used_columns = 0  # no row is longer

    def begin_prefill(self, first: int, num_rows: int, width: int) -> None:
        """The next forward writes columns `[0, width)` of new rows, which see nothing but themselves."""
        self.rows, self.columns, self.past = (first, first + num_rows), width, 0
        self.positions = None
        self._used_columns = max(self._used_columns, width)

    def begin_extend(self, first: int, positions: Tensor, columns: int) -> None:
        """The next forward writes token j of row `first + i` to column `positions[i, j]`; attention sees `columns`."""
        num_rows, width = positions.shape
        self.rows, self.columns, self.past = (first, first + num_rows), columns, columns - width
        self.row_index = torch.arange(first, first + num_rows, device=positions.device)[:, None]
        self.positions = positions
        self._used_columns = max(self._used_columns, columns)

    def rearrange(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Row `targets[i]` becomes what row `sources[i]` was, for all at once; other rows stay."""
        pairs = [(s, t) for s, t in zip(sources, targets, strict=True) if s != t]
        if not pairs:
            return
        old, new = [s for s, _ in pairs], [t for _, t in pairs]
        for layer in self.layers:
            layer.reserve(max(new) + 1, self._used_columns)
            for buffer in (layer.keys, layer.values):
                buffer[new, :, : self._used_columns] = buffer[old, :, : self._used_columns]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write this forward's keys and values; what attention should see comes back."""
        while len(self.layers) <= layer_idx:
            self.layers.append(SlotLayer(self))
        return self.layers[layer_idx].update(key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns before those that this forward writes."""
        return self.past

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Width of the attention of this forward, and its offset 0."""
        return self.columns, 0


class SlotLayer(DynamicLayer):
    """One layer's keys and values, each `[rows, heads, columns, head_dim]`, rows and columns with room to grow."""

    keys: Tensor | None
    values: Tensor | None

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self.cache = cache

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """See `SlotCache.update`."""
        cache = self.cache
        (first, last), columns = cache.rows, cache.columns
        if self.keys is None or self.values is None:
            self.keys, self.values = self._empty(key_states), self._empty(value_states)
            self.is_initialized = True
        self.reserve(last, columns)
        if cache.positions is None:
            self.keys[first:last, :, :columns] = key_states
            self.values[first:last, :, :columns] = value_states
            return key_states, value_states
        self.keys[cache.row_index, :, cache.positions] = key_states.transpose(1, 2).to(self.keys.dtype)
        self.values[cache.row_index, :, cache.positions] = value_states.transpose(1, 2).to(self.values.dtype)
        return self.keys[first:last, :, :columns], self.values[first:last, :, :columns]

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for so many rows and columns; what is written stays."""
        assert self.keys is not None and self.values is not None
        have_rows, have_columns = self.keys.shape[0], self.keys.shape[2]
        if rows <= have_rows and columns <= have_columns:
            return
        if rows > have_rows:
            have_rows = max(rows, min(self.cache.max_rows, 2 * have_rows))
        if columns > have_columns:
            have_columns = -(-max(columns, have_columns * 3 // 2) // _COLUMN_STEP) * _COLUMN_STEP
        self.keys = _grown(self.keys, have_rows, have_columns)
        self.values = _grown(self.values, have_rows, have_columns)

    def _empty(self, states: Tensor) -> Tensor:
        return states.new_empty((0, states.shape[1], 0, states.shape[3]), dtype=self.cache.dtype or states.dtype)


def _grown(buffer: Tensor, rows: int, columns: int) -> Tensor:
    # Zeros, not garbage: a masked column is multiplied by 0, and 0 times NaN is NaN.
    grown = buffer.new_zeros((rows, buffer.shape[1], columns, buffer.shape[3]))
    grown[: buffer.shape[0], :, : buffer.shape[2]] = buffer
    return grown
