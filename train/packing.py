"""Rows into micro-batches: sorted by length, padded on the right, as few padded tokens as the order allows.

A micro-batch holds each row's tokens from the start of the trajectory to the row's end, because a token is trained
with everything before it as context. Nothing is padded on the left, so a token stands at the position at which the
engine sampled it, whatever it is batched with. All arrays after `input_ids` speak of the token that a position
PREDICTS: column t belongs to token t + 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from agent.trajectory import Trajectory
from train.credit.row import Row


@dataclass(slots=True, kw_only=True)
class MicroBatch:
    """Padded rows on one device.

    input_ids: `[num_rows, num_tokens]`; lengths: `[num_rows]`. Each `[num_rows, num_tokens - 1]`: completion_mask (1 on
    real tokens), policy_mask (1 on sampled tokens that are trained), advantages, engine_logprobs (0 off the mask).
    sampled: the positions where policy_mask is 1, as indices into the flattened mask, `[num_sampled]`; versions: the
    policy version that sampled each of them, `[num_sampled]`.
    old_logprobs (set by the first update on the batch) and reference_logprobs have the mask's shape.
    row_indices tells which of the packed rows stands where. A probe keeps the logprobs of the first forward pass on it,
    `[num_rows, num_tokens - 1]`, in first_logprobs.
    """

    input_ids: torch.Tensor
    lengths: torch.Tensor
    completion_mask: torch.Tensor
    policy_mask: torch.Tensor
    advantages: torch.Tensor
    engine_logprobs: torch.Tensor
    sampled: torch.Tensor
    versions: torch.Tensor
    row_indices: tuple[int, ...]
    old_logprobs: torch.Tensor | None = None
    reference_logprobs: torch.Tensor | None = None
    is_probe: bool = False
    first_logprobs: torch.Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Rows in this micro-batch."""
        return len(self.row_indices)

    @property
    def num_sampled(self) -> int:
        """Trained tokens in this micro-batch."""
        return self.sampled.numel()


def check_row(row: Row, trajectories: Mapping[str, Trajectory], *, context_window: int | None) -> Trajectory:
    """The trajectory of a row that can be trained.

    Raises:
        ValueError: an unknown trajectory, tokens outside of it, arrays of another length, a mask that is not 0/1 or
            that covers a token which was not sampled, an advantage that is not finite, or a row longer than the window.
    """
    if row.trajectory_id not in trajectories:
        raise ValueError(f"row of trajectory {row.trajectory_id!r}, which is not among the {len(trajectories)} given")
    trajectory = trajectories[row.trajectory_id]
    sampled = trajectory.loss_mask
    where = f"row [{row.first_token}, {row.last_token}) of trajectory {row.trajectory_id!r}"
    if not 0 <= row.first_token < row.last_token <= len(sampled):
        raise ValueError(f"{where}: the trajectory has tokens [0, {len(sampled)})")
    length = row.last_token - row.first_token
    if row.advantages.shape != (length,) or row.loss_mask.shape != (length,):
        raise ValueError(
            f"{where}: advantages and loss_mask must have {length} entries, got {row.advantages.shape} and "
            f"{row.loss_mask.shape}"
        )
    if not np.isin(row.loss_mask, (0, 1)).all():
        raise ValueError(f"{where}: loss_mask must hold 0 and 1 only")
    if (row.loss_mask > sampled[row.first_token : row.last_token]).any():
        raise ValueError(f"{where}: loss_mask is 1 on a token that the policy did not sample")
    if row.first_token == 0 and row.loss_mask[0] == 1:
        raise ValueError(f"{where}: nothing precedes the first token, so it cannot be trained; prompts are never empty")
    if not np.isfinite(row.advantages).all():
        raise ValueError(f"{where}: an advantage is NaN or infinite; leave the trajectory out of the group instead")
    if context_window is not None and row.last_token > context_window:
        raise ValueError(
            f"{where} is longer than the model's window of {context_window} tokens; lower max_trajectory_tokens"
        )
    return trajectory


def pack_rows(
    rows: Sequence[Row],
    trajectories: Mapping[str, Trajectory],
    *,
    max_tokens: int,
    pad_id: int,
    device: torch.device | str = "cpu",
) -> list[MicroBatch]:
    """Group rows of similar length so that `num_rows * longest <= max_tokens`; a longer row stands alone.

    The order depends on the rows alone: by length, then as given. Rows are taken to be checked (`check_row`).
    """
    order = sorted(range(len(rows)), key=lambda i: rows[i].last_token)
    groups: list[list[int]] = []
    for index in order:
        length = rows[index].last_token
        if groups and (len(groups[-1]) + 1) * length <= max_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [_micro_batch(rows, trajectories, group, pad_id, device) for group in groups]


def empty_batch(*, pad_id: int, device: torch.device | str = "cpu") -> MicroBatch:
    """A micro-batch that trains nothing: its loss and every gradient are 0, but collectives run."""
    nothing = torch.zeros((1, 1), dtype=torch.long, device=device)
    return MicroBatch(
        input_ids=torch.full((1, 2), pad_id, dtype=torch.long, device=device),
        lengths=torch.full((1,), 2, device=device),
        completion_mask=torch.ones_like(nothing),
        policy_mask=nothing,
        advantages=nothing.float(),
        engine_logprobs=nothing.float(),
        sampled=nothing.new_zeros(0),
        versions=nothing.new_zeros(0),
        row_indices=(-1,),
    )


def _micro_batch(
    rows: Sequence[Row],
    trajectories: Mapping[str, Trajectory],
    group: list[int],
    pad_id: int,
    device: torch.device | str,
) -> MicroBatch:
    longest = max(rows[i].last_token for i in group)
    shape = (len(group), longest)
    ids = np.full(shape, pad_id, dtype=np.int64)
    real: NDArray[np.int64] = np.zeros(shape, dtype=np.int64)
    mask: NDArray[np.int64] = np.zeros(shape, dtype=np.int64)
    advantages = np.zeros(shape, dtype=np.float32)
    logprobs = np.zeros(shape, dtype=np.float32)
    versions: NDArray[np.int64] = np.zeros(shape, dtype=np.int64)
    for place, index in enumerate(group):
        row = rows[index]
        trajectory = trajectories[row.trajectory_id]
        span = slice(row.first_token, row.last_token)
        ids[place, : row.last_token] = trajectory.token_ids[: row.last_token]
        real[place, : row.last_token] = 1
        mask[place, span] = row.loss_mask
        advantages[place, span] = row.advantages * row.loss_mask
        logprobs[place, span] = trajectory.logprobs[span] * row.loss_mask
        versions[place, span] = trajectory.versions[span]
    sampled = np.flatnonzero(mask[:, 1:])
    return MicroBatch(
        input_ids=torch.from_numpy(ids).to(device),
        lengths=torch.from_numpy(real.sum(axis=1)).to(device),
        completion_mask=torch.from_numpy(real[:, 1:].copy()).to(device),
        policy_mask=torch.from_numpy(mask[:, 1:].copy()).to(device),
        advantages=torch.from_numpy(advantages[:, 1:].copy()).to(device),
        engine_logprobs=torch.from_numpy(logprobs[:, 1:].copy()).to(device),
        sampled=torch.from_numpy(sampled).to(device),
        versions=torch.from_numpy(versions[:, 1:].ravel()[sampled]).to(device),
        row_indices=tuple(group),
    )
