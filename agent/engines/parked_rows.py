"""Rows that have said something and may be asked to go on: their keys and values stay in the cache for a while.

The next turn of an episode begins with everything that its last turn read and said, so only what the environment added
needs a prefill. A parked row is found by the episode that its request's key names (the part before the last slash) and
used only if its tokens are exactly the beginning of the new prompt, and its weights are the current ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedRow:
    """Whose row it is, the tokens whose keys and values are in the cache, and the version that computed them."""

    episode: str
    tokens: NDArray[np.int64]
    version: int


def episode_of(key: str) -> str:
    """The episode that a request's key names: "e7/0002" -> "e7"; "" where it names none."""
    return key.rpartition("/")[0]


def find_parked(
    parked: Sequence[ParkedRow], requests: Sequence[tuple[str, NDArray[np.int64]]], version: int
) -> dict[int, int]:
    """Which request can go on from which parked row: request index -> parked index, each used once.

    Args:
        parked: newest first; of two rows of one episode the newest is tried.
        requests: key and prompt of each. At least the prompt's last token is always computed anew.
        version: of the weights that sample now.
    """
    newest: dict[str, int] = {}
    for i, row in enumerate(parked):
        if row.version == version:
            newest.setdefault(row.episode, i)
    found = {}
    for i, (key, prompt) in enumerate(requests):
        candidate = newest.get(episode_of(key))
        if candidate is None:
            continue
        tokens = parked[candidate].tokens
        if len(tokens) < len(prompt) and np.array_equal(tokens, prompt[: len(tokens)]):
            found[i] = newest.pop(episode_of(key))
    return found
