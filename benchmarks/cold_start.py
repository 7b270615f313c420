"""The policies that comparisons begin with: made from a setting, measured before any method has run, and kept.

    python -m benchmarks.cold_start 2hops --out runs/2hops                # make it, measure its EM
    python -m benchmarks.cold_start 2hops --out runs/2hops --keep 2hops   # and keep it in configs/ablation/starts
    python -m benchmarks.cold_start --smoke                               # seconds, no claim

Greedy, and eight times a question at temperature 1, on dev questions. What is kept is rounded to bfloat16 and measured
so; EM, settings and hash stand beside it.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

SMOKE = (
    "testbed.policy.hidden_size=32",
    "testbed.policy.num_layers=2",
    "testbed.policy.num_heads=2",
    "train.cold_start.phases=[{demonstrations: 64, steps: 4}]",
)
MEASURED = "measured.json"


def main() -> None:
    """Parse, make or copy the cold start, measure it, and keep it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", nargs="?", default="2hops", help="name of configs/ablation, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="start=null makes it anew")
    parser.add_argument("--out", type=Path, help="folder of the comparison")
    parser.add_argument("--keep", metavar="NAME", help="keep it in configs/ablation/starts/NAME")
    parser.add_argument("--smoke", action="store_true", help="a tiny version of everything, to see that it runs")
    options = parser.parse_args()
    if options.out is None and not options.smoke:
        parser.error("--out is missing: name the folder of the comparison")
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        figures = measure(options.setting, [*options.overrides, *(SMOKE if options.smoke else ())], out, options.keep)
    print(json.dumps(figures, indent=1))


def measure(setting: str, overrides: list[str], out: Path, keep: str | None) -> dict[str, Any]:
    """Make the cold start of a setting in `out` where it is missing, and measure it."""
    from benchmarks.credit import measure_start
    from train.ablation import Ablation
    from train.ablation_setting import load_setting
    from train.ablation_start import keep_start, start_folder
    from train.cold_start_record import ColdStartRecord
    from train.method import load_methods

    read = load_setting(setting, [*overrides, *(["start=null"] if keep else [])])
    ablation = Ablation(name=setting, setting=read, methods=load_methods(["outcome"]), seeds=[0], out=out, say=print)
    ablation.prepare()
    study = ablation.study
    if not keep:
        return measure_start(study, study.cold_start)
    kept = start_folder(keep)
    keep_start(study.cold_start, read.testbed, ColdStartRecord.of(study.base_config()), kept)
    figures = measure_start(study, kept)
    (kept / MEASURED).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


if __name__ == "__main__":
    main()
