"""A key-value cache of slots: each sequence owns a row and fills it from column 0 at its own pace.

transformers' `DynamicCache` keeps all rows at one length, so every step copies the cache to append a column, and
joining or leaving means left-padding the rest. Here a step writes one column per row in place, a new sequence is
written into the next free slot, and when one leaves, the last slot moves into its place: the live rows are always
`[0, num_rows)`. A row's column is its token's position; columns past a row's own length hold stale values, which the
attention mask hides.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_COLUMN_STEP = 128


class SlotCache(Cache):
    """Keys and values of at most `max_rows` sequences of at most `max_columns` tokens; grows as needed.

    `dtype` is that of the buffers; None takes it from what the model writes first.
    """

    def __init__(self, max_rows: int, max_columns: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(layers=[])
        self.dtype = dtype
        self.max_rows = max_rows
        self.max_columns = max_columns
        self.num_rows = 0
        self.first_row = 0  # a prefill writes rows [first_row, num_rows)
        self.columns = 0  # width of what attention sees in this forward
        self.past = 0  # columns of it that were there before this forward
        self.row_index: Tensor | None = None  # decode: rows and the column that each writes, [num_rows]
        self.positions: Tensor | None = None

    def begin_prefill(self, num_new: int, width: int) -> None:
        """The next forward fills columns `[0, width)` of `num_new` further rows."""
        self.first_row, self.num_rows = self.num_rows, self.num_rows + num_new
        self.columns, self.past = width, 0
        self.row_index = self.positions = None

    def begin_decode(self, positions: Tensor, columns: int) -> None:
        """The next forward writes column `positions[row]` of every live row and attends to the first `columns`."""
        self.positions = positions
        if self.row_index is None or len(self.row_index) != len(positions):
            self.row_index = torch.arange(len(positions), device=positions.device)
        self.columns, self.past = columns, columns - 1

    def move(self, sources: list[int], targets: list[int], num_rows: int) -> None:
        """Copy rows `sources` onto `targets`; the live rows are then `[0, num_rows)`."""
        self.num_rows = num_rows
        if sources:
            for layer in self.layers:
                for buffer in (layer.keys, layer.values):
                    buffer[targets, :, : self.columns] = buffer[sources, :, : self.columns]

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
        self.keys = self._with_room(self.keys, key_states)
        self.values = self._with_room(self.values, value_states)
        self.is_initialized = True
        if cache.positions is None:
            # New sequences see nothing but themselves: no need to read back what is written.
            self.keys[cache.first_row : cache.num_rows, :, : cache.columns] = key_states
            self.values[cache.first_row : cache.num_rows, :, : cache.columns] = value_states
            return key_states, value_states
        self.keys[cache.row_index, :, cache.positions] = key_states[:, :, 0].to(self.keys.dtype)
        self.values[cache.row_index, :, cache.positions] = value_states[:, :, 0].to(self.values.dtype)
        rows, columns = cache.num_rows, cache.columns
        return self.keys[:rows, :, :columns], self.values[:rows, :, :columns]

    def _with_room(self, buffer: Tensor | None, states: Tensor) -> Tensor:
        rows, columns = self.cache.num_rows, self.cache.columns
        if buffer is not None and buffer.shape[0] >= rows and buffer.shape[2] >= columns:
            return buffer
        new_rows, new_columns = (0, 0) if buffer is None else (buffer.shape[0], buffer.shape[2])
        if rows > new_rows:
            new_rows = min(self.cache.max_rows, max(rows, 2 * new_rows))
        if columns > new_columns:
            wanted = -(-max(columns, new_columns * 3 // 2) // _COLUMN_STEP) * _COLUMN_STEP
            new_columns = max(columns, min(self.cache.max_columns, wanted))
        _, heads, _, head_dim = states.shape
        # Zeros, not garbage: a masked column is multiplied by 0, and 0 times NaN is NaN.
        grown = states.new_zeros((new_rows, heads, new_columns, head_dim), dtype=self.cache.dtype or states.dtype)
        if buffer is not None:
            grown[: buffer.shape[0], :, : buffer.shape[2]] = buffer
        return grown
