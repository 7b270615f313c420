"""The numbers that a caller of a build may set, checked before anything is touched."""

import math

from retrieval.build.memory import GB


def ram_bound(ram_gb: float | None) -> int | None:
    """`--ram-gb` in bytes.

    Raises:
        ValueError: it is not a number above 0.
    """
    if ram_gb is None:
        return None
    if not (math.isfinite(ram_gb) and ram_gb > 0):
        raise ValueError(f"--ram-gb is {ram_gb}; give the gigabytes (10^9 bytes) that the build may hold, above 0")
    return round(ram_gb * GB)


def checked_shard_size(shard_size: int) -> int:
    """The number of passages a shard.

    Raises:
        ValueError: it is less than 1.
    """
    if shard_size < 1:
        raise ValueError(f"--shard-size is {shard_size}; a shard has at least 1 passage")
    return shard_size
