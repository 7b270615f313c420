"""Which runs of two methods may be compared: those that began with the same policy, to the bit.

Records of several machines meet in one table, and a cold start that was made elsewhere is another policy: its runs
would differ before any method did. A run whose cold start is not known is compared with none.
"""

from collections.abc import Mapping
from pathlib import Path

from evaluation.comparability import describe_model
from train.ablation_record import RunRecord

Runs = Mapping[int, RunRecord]
"""Records of one method by seed."""

UNKNOWN = "unknown"
"""What stands for a cold start whose bits are not known."""


def seeds_of_pairs(ours: Runs, theirs: Runs) -> list[int]:
    """Seeds that both have, from one cold start."""
    return sorted(
        seed
        for seed in ours.keys() & theirs.keys()
        if ours[seed].cold_start_sha256 is not None and ours[seed].cold_start_sha256 == theirs[seed].cold_start_sha256
    )


def seeds_of_other_starts(ours: Runs, theirs: Runs) -> list[int]:
    """Seeds that both have, but not from one cold start."""
    return sorted((ours.keys() & theirs.keys()) - set(seeds_of_pairs(ours, theirs)))


def common_runs(ours: Runs, theirs: Runs) -> tuple[Runs, Runs]:
    """The runs of two methods whose means may be compared.

    All of both where all began with one policy, though one of them has more seeds; else the pairs alone, so that
    either side has each cold start as often as the other.
    """
    starts = {run.cold_start_sha256 for runs in (ours, theirs) for run in runs.values()}
    if len(starts) == 1 and None not in starts:
        return ours, theirs
    seeds = seeds_of_pairs(ours, theirs)
    return {seed: ours[seed] for seed in seeds}, {seed: theirs[seed] for seed in seeds}


def records_of_other_starts(found: Mapping[str, Runs], cold_start: Path) -> list[tuple[str, int]]:
    """Method and seed of each record that did not begin with the policy in this folder."""
    here = (describe_model(cold_start) or {}).get("weights_sha256")
    return [
        (method, seed)
        for method, runs in found.items()
        for seed, run in sorted(runs.items())
        if here is None or run.cold_start_sha256 != here
    ]
