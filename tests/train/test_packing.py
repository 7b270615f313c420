"""Rows into tensors: every trained token once, at its own position, and nothing else marked."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.fakes import random_trajectories, trajectory, turn
from train.credit.row import Row
from train.packing import check_row, pack_rows


def row_of(name: str, first: int, last: int, mask: list[int], advantages: list[float] | None = None) -> Row:
    values = np.asarray(advantages if advantages is not None else [1.0] * len(mask))
    return Row(trajectory_id=name, first_token=first, last_token=last, advantages=values, loss_mask=np.asarray(mask))


@given(st.integers(0, 1000), st.integers(1, 80))
def test_packing_keeps_every_token_and_its_advantage(seed: int, max_tokens: int) -> None:
    members = random_trajectories(9, seed=seed)
    rng = np.random.default_rng(seed)
    rows = []
    for t in members:
        first = len(t.prompt_ids)
        length = len(t.token_ids) - first
        rows.append(row_of(t.id, first, first + length, t.loss_mask[first:].tolist(), rng.normal(size=length).tolist()))
    batches = pack_rows(rows, {t.id: t for t in members}, max_tokens=max_tokens, pad_id=0)
    assert sorted(i for b in batches for i in b.row_indices) == list(range(9))
    for batch in batches:
        assert batch.num_rows == 1 or batch.input_ids.numel() <= max_tokens
        assert batch.num_sampled == int(batch.policy_mask.sum())
        for place, index in enumerate(batch.row_indices):
            t, row = members[index], rows[index]
            length = row.last_token
            assert batch.input_ids[place, :length].tolist() == t.token_ids.tolist()
            assert batch.completion_mask[place].sum() == length - 1
            np.testing.assert_array_equal(batch.policy_mask[place, : length - 1], t.loss_mask[1:])
            at = np.flatnonzero(t.loss_mask[1:])
            np.testing.assert_allclose(
                batch.advantages[place].numpy()[at], row.advantages[row.loss_mask == 1], rtol=1e-6
            )
            np.testing.assert_allclose(batch.engine_logprobs[place].numpy()[at], t.logprobs[1:][at], rtol=1e-6)


def test_rows_of_like_length_share_a_micro_batch() -> None:
    members = [trajectory(f"t{i}", [turn([5] * length)]) for i, length in enumerate((20, 2, 19, 3))]
    rows = [row_of(t.id, 3, len(t.token_ids), [1] * (len(t.token_ids) - 3)) for t in members]
    batches = pack_rows(rows, {t.id: t for t in members}, max_tokens=46, pad_id=0)
    assert [b.row_indices for b in batches] == [(1, 3), (2, 0)]


def test_a_row_of_a_branch_keeps_its_context_and_trains_its_own_tokens() -> None:
    t = trajectory("t", [turn((4, 5), (6,)), turn((7, 8))])
    (batch,) = pack_rows([row_of("t", 6, 8, [1, 1])], {"t": t}, max_tokens=64, pad_id=0)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert batch.policy_mask.tolist() == [[0, 0, 0, 0, 0, 1, 1]]


def test_rows_that_do_not_fit_their_trajectory_are_refused() -> None:
    t = trajectory("t", [turn((4, 5), (6,)), turn((7,))])
    good = row_of("t", 3, 7, [1, 1, 0, 1])
    known = {"t": t}
    assert check_row(good, known, context_window=7) is t
    cases = [
        (replace(good, trajectory_id="x"), "not among the 1 given"),
        (replace(good, last_token=9), r"tokens \[0, 7\)"),
        (replace(good, advantages=np.ones(3)), "must have 4 entries"),
        (replace(good, loss_mask=np.array([1, 1, 2, 1])), "0 and 1 only"),
        (replace(good, loss_mask=np.array([1, 1, 1, 1])), "did not sample"),
        (replace(good, advantages=np.array([0, np.nan, 0, 0])), "NaN or infinite"),
    ]
    for row, message in cases:
        with pytest.raises(ValueError, match=message):
            check_row(row, known, context_window=7)
    with pytest.raises(ValueError, match="lower max_trajectory_tokens"):
        check_row(good, known, context_window=6)
    bare = trajectory("b", [turn((4,))], prompt=())
    with pytest.raises(ValueError, match="nothing precedes"):
        check_row(row_of("b", 0, 1, [1]), {"b": bare}, context_window=None)
