"""Which passage ids have been used, in 8 bytes an id: the duplicate check of corpora that do not fit in memory."""

import hashlib

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16


def id_hash(passage_id: str) -> int:
    """A 64-bit hash of an id, the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(passage_id.encode("utf-8"), digest_size=8).digest(), "little")


class IdLedger:
    """Takes id hashes in and says which of them it may have seen before.

    The newest ids stand in a set and are checked at once; every 65,536 ids they become a sorted array, checked against
    the older ones then. Sorted arrays of like size are merged, so there are never more than a few dozen.
    """

    def __init__(self) -> None:
        self._newest: set[int] = set()
        self._runs: list[NDArray[np.uint64]] = []

    def add(self, hashed: int) -> list[int]:
        """The hashes that are now known to stand twice; a repeat of an old id may be told only by a later call."""
        if hashed in self._newest:
            return [hashed]
        self._newest.add(hashed)
        return self.settle() if len(self._newest) >= _BLOCK else []

    def settle(self) -> list[int]:
        """Check everything that has been put off; to be called once more after the last id."""
        if not self._newest:
            return []
        newest = np.sort(np.fromiter(self._newest, dtype=np.uint64, count=len(self._newest)))
        self._newest = set()
        repeated: list[int] = []
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, newest), len(run) - 1)
            repeated.extend(newest[run[places] == newest].tolist())
        self._runs.append(newest)
        while len(self._runs) > 1 and len(self._runs[-2]) <= len(self._runs[-1]):
            younger, older = self._runs.pop(), self._runs.pop()
            merged = np.concatenate([older, younger])
            merged.sort(kind="stable")  # in place: a sorted copy would be a third of the memory again
            self._runs.append(merged)
        return repeated
