"""What fictional worlds cost to make, and how hard they are: the tables in docs/world.md.

    python -m benchmarks.world                # tiny and small measured, small and large timed: minutes
    python -m benchmarks.world --smoke        # seconds: that it runs, not what it measures

Every world is made in a process of its own, so that its peak memory is its own; the peak of a process that only imports
the same modules stands beside it.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

MEASURED: dict[str, dict[str, Any]] = {
    "tiny, 2 hops": {"preset": "tiny", "hops": "2"},
    "tiny, 3 hops": {"preset": "tiny", "hops": "3"},
    "tiny, mixture": {"preset": "tiny"},
    "small, mixture": {"preset": "small"},
}
TIMED: dict[str, dict[str, Any]] = {"small": {"preset": "small"}, "large": {"preset": "large"}}
SMOKE = {"tiny": {"preset": "tiny", "hops": "2"}}


def made(fields: dict[str, Any] | None, out: Path) -> dict[str, float]:
    """Seconds and peak memory (MiB) of making one world here, or of the imports alone."""
    from envs.world import WorldSettings, make_world

    started = time.perf_counter()
    if fields is not None:
        fields = dict(fields)
        make_world(WorldSettings.preset(fields.pop("preset"), **fields), out)
    seconds = time.perf_counter() - started
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    return {"seconds": round(seconds, 1), "peak_mib": round(kib / 1024, 1)}


def alone(fields: dict[str, Any] | None, out: Path) -> dict[str, float]:
    """`made` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return pool.submit(made, fields, out).result()


def main() -> None:
    """Make, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    measured, timed = (SMOKE, SMOKE) if options.smoke else (MEASURED, TIMED)
    figures: dict[str, Any] = {"measures": {}, "cost": {}}
    with tempfile.TemporaryDirectory() as scratch:
        figures["cost"]["imports alone"] = alone(None, Path(scratch))
        for number, (name, fields) in enumerate(timed.items()):
            figures["cost"][name] = alone(fields, Path(scratch) / f"timed-{number}")
            print(f"{name}: {figures['cost'][name]}", flush=True)
        for number, (name, fields) in enumerate(measured.items()):
            folder = Path(scratch) / f"measured-{number}"
            alone(fields, folder)
            from envs.world_description import measure_files

            measures = measure_files(folder)
            figures["measures"][name] = None if measures is None else measures.figures()
    keys = list(next(iter(figures["measures"].values())))
    print(f"{'':36}" + "".join(f"{name:>24}" for name in figures["measures"]))
    for key in keys:
        values = [row[key] for row in figures["measures"].values()]
        print(f"{key:36}" + "".join(f"{_cell(value):>24}" for value in values))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(_cell(inner) for inner in value.values())
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
