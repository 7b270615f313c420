"""What `waymark ablate` is asked for, checked before anything is made."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train.ablation import Ablation, Say
from train.ablation_setting import load_setting
from train.config_file import ConfigError
from train.method import BASELINE, load_methods


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRequest:
    """A comparison and how its missing runs are made.

    `workers` runs go on at once on this machine, or as many as a Ray cluster has room for where `ray_address` is given.
    """

    methods: tuple[str, ...]
    overrides: tuple[str, ...]
    setting: str
    seeds: tuple[int, ...]
    budget: int | None
    out: Path
    records: Path | None
    workers: int
    ray_address: str | None
    keep_runs: bool
    report_only: bool
    baseline: str = BASELINE

    @classmethod
    def parse(
        cls,
        words: Sequence[str],
        *,
        setting: str,
        seeds: str,
        out: Path,
        budget: int | None = None,
        records: Path | None = None,
        workers: int = 1,
        ray_address: str | None = None,
        keep_runs: bool = False,
        report_only: bool = False,
        baseline: str | None = None,
    ) -> "AblationRequest":
        """From the words of a command line: methods, and `FIELD=VALUE` overrides of the setting.

        Raises:
            ConfigError: a number that cannot be, no method, a baseline that is none of them, --keep-runs on a cluster.
        """
        if workers < 1:
            raise ConfigError(f"--workers is {workers}; it must be at least 1")
        if budget is not None and budget < 1:
            raise ConfigError(f"--budget is {budget} trajectories; it must be at least 1")
        if keep_runs and ray_address is not None:
            raise ConfigError("--keep-runs with --ray-address: runs lie on the nodes that made them; leave one out")
        if out.exists() and not out.is_dir():
            raise ConfigError(f"--out: {out} is a file; name a folder to write")
        methods = tuple(word for word in words if "=" not in word)
        if not methods:
            raise ConfigError("no method is named; name at least one, for example outcome")
        if baseline is not None and baseline not in (names := [Path(method).stem for method in methods]):
            raise ConfigError(f"--baseline is {baseline!r}; name one of the methods compared: {', '.join(names)}")
        return cls(
            methods=methods,
            overrides=tuple(word for word in words if "=" in word),
            setting=setting,
            seeds=parse_seeds(seeds),
            budget=budget,
            out=out,
            records=records,
            workers=workers,
            ray_address=ray_address,
            keep_runs=keep_runs,
            report_only=report_only,
            baseline=baseline or BASELINE,
        )

    def command(self, budget: int) -> str:
        """What a person types to have this comparison made, settings and files named as they were given.

        Where it is made and how many runs go on at once is left out, for it changes no figure; the folder is neutral.
        """
        words = ["waymark", "ablate", *self.methods, *self.overrides, "--setting", self.setting]
        words += ["--seeds", seeds_as_text(self.seeds), "--budget", str(budget)]
        words += ["--baseline", self.baseline] if self.baseline != BASELINE else []
        return shlex.join([*words, "--out", f"runs/{Path(self.setting).stem}"])

    def open(self, say: Say) -> Ablation:
        """The comparison, with every method and config checked."""
        return Ablation(
            name=Path(self.setting).stem,
            setting=load_setting(self.setting, self.overrides),
            methods=load_methods(self.methods),
            seeds=self.seeds,
            budget=self.budget,
            out=self.out,
            overrides=self.overrides,
            records=self.records,
            say=say,
        )


def seeds_as_text(seeds: Sequence[int]) -> str:
    """Seeds as `parse_seeds` reads them, as short as can be.

    >>> seeds_as_text((0, 1, 2)), seeds_as_text((10, 11)), seeds_as_text((7, 4)), seeds_as_text((0,))
    ('3', '10:12', '7,4', '1')
    """
    first, end = seeds[0], seeds[0] + len(seeds)
    if tuple(seeds) != tuple(range(first, end)):
        return ",".join(map(str, seeds))
    return f"{first}:{end}" if first else str(end)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from `N` (0 to N-1), `FIRST:END` (END left out) or a list with commas.

    >>> parse_seeds("3"), parse_seeds("10:12"), parse_seeds("4,7")
    ((0, 1, 2), (10, 11), (4, 7))

    Raises:
        ConfigError: none of these, no seed, or one twice.
    """
    if re.fullmatch(r"\d+", text):
        seeds = tuple(range(int(text)))
    elif span := re.fullmatch(r"(\d+):(\d+)", text):
        seeds = tuple(range(int(span[1]), int(span[2])))
    elif re.fullmatch(r"\d+(,\d+)+,?|\d+,", text):
        seeds = tuple(int(part) for part in text.split(",") if part)
    else:
        raise ConfigError(f"--seeds is {text!r}; give a number N for 0 to N-1, FIRST:END, or a list such as 0,3,5")
    if not seeds:
        raise ConfigError(f"--seeds is {text!r}, which names no seed")
    if twice := [seed for seed in dict.fromkeys(seeds) if seeds.count(seed) > 1]:
        raise ConfigError(f"--seeds is {text!r}, which names {twice[0]} twice")
    return seeds
