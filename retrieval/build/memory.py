"""How much memory this process holds, and how much of a bound is left."""

import ctypes
import gc
import math
import resource
import sys
from pathlib import Path

GB = 1_000_000_000
"""Bytes of a gigabyte as `--ram-gb` counts it."""


def in_words(num_bytes: float) -> str:
    """An amount of memory or disk for a person, in units of 1,000: `0 bytes`, `4.2 kB`, `1.33 GB`."""
    for unit, size, digits in (("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 1)):
        if num_bytes >= size:
            return f"{num_bytes / size:,.{digits}f} {unit}"
    return f"{num_bytes:,.0f} bytes"


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not say, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_bytes()
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """The most memory that this process has held, not counting what the process that started it held."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_freed() -> None:
    """Give memory that Python and the C library have freed back to the system, so that a bound is met."""
    gc.collect()
    if sys.platform.startswith("linux"):
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except (AttributeError, OSError):  # a C library other than glibc
            return


def check_room(ram_bytes: int | None, needed: int, what: str, *, advice: str = "") -> None:
    """Refuse what does not fit into a bound beside what this process holds already; freed memory is given back first.

    Args:
        ram_bytes: the bound of the whole build; None: there is none.
        needed: bytes that `what` will take more.
        what: what takes them, as the message says it.
        advice: another way out than a higher bound, beginning with ", or".

    Raises:
        ValueError: it does not fit; the message says what is needed.
    """
    if ram_bytes is None:
        return
    release_freed()
    total = resident_bytes() + needed
    if total > ram_bytes:
        raise ValueError(no_room(ram_bytes, total, what, advice=advice))


def no_room(ram_bytes: int, total: int, what: str, *, advice: str = "") -> str:
    """The message for a bound that is too low: `total` bytes would do for the step at hand."""
    return (
        f"--ram-gb {ram_bytes / GB:g} has no room for {what}: at least {math.ceil(total / GB * 10) / 10:g} is needed "
        f"here; call again with more, the build goes on where it is{advice}"
    )
