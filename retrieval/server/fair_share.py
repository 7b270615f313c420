"""How many connections each replica has, in memory that all of them map: the ones with fewer accept first.

Without this, whichever replica wakes first takes every connection that waits, and as clients keep their connections it
serves everybody while the others have nothing to do.
"""

import mmap
import struct
from pathlib import Path

_SLOT = struct.Struct("<q")
_ABSENT = -1


def create_counts(path: Path, replicas: int) -> None:
    """Write the file that all replicas map: nobody is there yet."""
    path.write_bytes(_SLOT.pack(_ABSENT) * replicas)


class FairShare:
    """One replica's view of the counts. A slot is written by its replica, and by the parent when that one has died."""

    def __init__(self, path: Path, place: int) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._place = place

    def publish(self, connections: int) -> None:
        """Say how many connections this replica has."""
        _SLOT.pack_into(self._map, self._place * _SLOT.size, connections)

    def leave(self) -> None:
        """Say that this replica accepts no more."""
        self.clear(self._place)

    def clear(self, place: int) -> None:
        """Say that the replica in a place accepts no more."""
        _SLOT.pack_into(self._map, place * _SLOT.size, _ABSENT)

    def is_next(self, connections: int) -> bool:
        """True if no replica that accepts has fewer than `connections`."""
        counts = (_SLOT.unpack_from(self._map, start)[0] for start in range(0, len(self._map), _SLOT.size))
        return not any(_ABSENT < count < connections for count in counts)
