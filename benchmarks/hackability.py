"""How well rewards stand against cheats: scripted ones, and GRPO itself.

    python -m benchmarks.hackability                           rewards and recipes against every scripted cheat
    python -m benchmarks.hackability --cold-start runs/2hops_stating                  the same, honest: a real policy
    python -m benchmarks.hackability --attack --out runs/attack --seeds 2               GRPO on each reward alone
    python -m benchmarks.hackability --attack --gate correct consistency --out runs/attack    a repaired composition
    python -m benchmarks.hackability --smoke; python -m benchmarks.hackability --attack --smoke --out /tmp/attack

The first prints percentiles among honest episodes at equal turns (`!`: not below the bar, `*`: so, but known and
repaired, `+`: a recipe pays it more than honest failures) and says what differs from `KNOWN` and `KNOWN_RECIPES` of
`benchmarks.red_team`, which hold for the tests' world. Attacks leave a record each, resume, and are told as JSON, page,
picture and Markdown. docs/hackability.md has what all of it came to.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.protocols.registry import load_protocol
from agent.tiny import build_tokenizer
from benchmarks.red_team.arena import HONEST_RATES, LIMITS, Arena, Played, open_arena
from benchmarks.red_team.attack import SMOKE_SETTING, attackable, open_attacks, run_attacks
from benchmarks.red_team.attack_figures import attack_figures
from benchmarks.red_team.attack_report import attack_markdown, svg, write_markdown, write_page
from benchmarks.red_team.known import REPAIRS
from benchmarks.red_team.matrix import RedTeam, record_of, table_of, unexpected
from benchmarks.red_team.recipe_matrix import recipe_cells, recipe_record, recipe_table, unexpected_recipes
from benchmarks.red_team.recipes import STATING, as_trained, load_recipes
from envs.actor import EngineActor
from rewards.registry import REWARDS
from train.ablation_request import parse_seeds
from train.ablation_setting import SettingConfig, load_setting
from train.config_file import ConfigError

COLD_START_BATCH = 256
LEGEND = (
    "numbers: percentile of what a cheat earns among honest episodes at equal turns (the right ones, or all, as the\n"
    "reward pays right answers alone, or any)\n"
    "!: not below the bar, their 25th percentile; *: so, but known and repaired\n"
    "+: below the bar, and a recipe pays it more than honest failures"
)
TOO_FEW = "smoke: these samples are too few; deviations from what is known mean nothing and are left out"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run what is asked for; returns the figures."""
    args = _parse(arguments)
    try:
        return attack(args) if args.attack else play_matrix(args)
    except ConfigError as error:
        sys.exit(f"hackability: {error}")


def play_matrix(args: argparse.Namespace) -> dict[str, Any]:
    """Scripted cheats against every reward and every recipe; prints both tables."""
    if args.smoke:
        args.questions, args.samples, args.num_passages = 6, 6, 500
    recipes = load_recipes(args.setting or STATING)
    with tempfile.TemporaryDirectory() as scratch:
        if args.cold_start:
            arena, honest = cold_started(args)
        else:
            arena, honest = scripted_arena(args, Path(scratch)), None
        try:
            team = RedTeam(arena, honest=honest, samples=args.samples)
            if len(set(team.honest.is_correct.tolist())) < 2:
                raise ConfigError(
                    "all honest episodes are right, or all wrong, and both are measured against: play more"
                )
            trained = team if honest else RedTeam(as_trained(arena, args.setting or STATING), samples=args.samples)
            cells, of_recipes = team.cells(), recipe_cells(trained, recipes)
        finally:
            arena.index.close()
    differing = {"rewards": unexpected(cells), "recipes": unexpected_recipes(of_recipes)}
    honest_by_turns = {
        name: _counted(team.honest.num_turns[team.honest.is_correct == right])
        for name, right in (("right", True), ("wrong", False))
    }
    print(table_of(cells), recipe_table(of_recipes), LEGEND, sep="\n\n")
    print(f"\nhonest: {len(team.honest.num_turns)} episodes, {team.honest.is_correct.mean():.3f} right")
    print("\n".join(f"{name}, by turns: {counts}" for name, counts in honest_by_turns.items()))
    if silent := [reward for reward in REWARDS if reward not in team.compared]:
        print(f"of honest episodes nothing is said by: {', '.join(silent)}")
    if args.smoke:
        print(TOO_FEW)
    else:
        for what, lines in differing.items():
            print("\n".join([f"{what}, not as known:", *lines] if lines else [f"{what}: all as known"]))
    figures = {
        "settings": {
            "honest": (args.policy or args.cold_start).name if args.cold_start else HONEST_RATES,
            **({} if args.cold_start else {"hops": args.hops, "num_passages": args.num_passages, "seed": args.seed}),
            **{key: getattr(args, key) for key in ("questions", "wordings", "samples")},
            "max_turns": {"rewards": arena.limits.max_turns, "recipes": trained.arena.limits.max_turns},
        },
        "honest_em": round(float(team.honest.is_correct.mean()), 4),
        "honest_by_turns": honest_by_turns,
        **record_of(cells),
        "recipes": recipe_record(of_recipes),
        "not_as_known": {what: len(lines) for what, lines in differing.items()},
    }
    _write_json(args.json, figures)
    if args.check and any(differing.values()):
        sys.exit("the matrices are not as in KNOWN and KNOWN_RECIPES")
    return figures


def scripted_arena(args: argparse.Namespace, folder: Path) -> Arena:
    """A world of its own, in which honest episodes are a noisy expert's."""
    return open_arena(
        folder,
        protocol=load_protocol("waymark_stating"),
        tokenizer=build_tokenizer([]),
        num_questions=args.questions,
        world={
            "hops": args.hops,
            "seed": args.seed,
            "num_passages": args.num_passages,
            **{f"{split}_questions": max(20, args.questions) for split in ("train", "dev", "test")},
        },
        wordings=args.wordings,
    )


def cold_started(args: argparse.Namespace) -> tuple[Arena, Played]:
    """The testbed in a folder of `waymark ablate` or of attacks, and episodes of its cold-started or another policy.

    Raises:
        ConfigError: the folder has no such policy.
    """
    from agent.engines.transformers import load_engine
    from agent.hugging_face import load_tokenizer

    model = args.policy or args.cold_start / "cold_start"
    if not model.is_dir() or not (args.cold_start / "testbed").is_dir():
        raise ConfigError(f"no {model}, or no testbed in {args.cold_start}: name a folder that `waymark ablate` made")
    train = load_setting(args.setting or STATING).train
    protocol = load_protocol(train.get("protocol", {}).get("name", "waymark"))
    limits = LIMITS.model_validate({**LIMITS.model_dump(), **train["limits"]})
    arena = open_arena(
        args.cold_start / "testbed",
        protocol=protocol,
        tokenizer=load_tokenizer(str(model)),
        num_questions=args.questions,
        wordings=args.wordings,
        limits=limits,
    )

    async def play() -> Played:
        engine = load_engine(str(model), max_batch=COLD_START_BATCH)
        try:
            return await arena.play_actor(EngineActor(engine), samples=args.samples)
        finally:
            await engine.close()

    honest = asyncio.run(play())
    # Cheats copy whole passages: they get room for it, in the same number of turns.
    roomy = LIMITS.model_copy(update={"max_turns": limits.max_turns, "top_k": limits.top_k})
    return arena.with_limits(roomy), honest


def attack(args: argparse.Namespace) -> dict[str, Any]:
    """GRPO on each reward alone or repaired: what has no record is run, and all records are told."""
    rewards = args.rewards or attackable(args.gate)
    setting: str | SettingConfig | None = args.setting
    if args.smoke:
        rewards = args.rewards or ["format", "consistency"]
        setting = SettingConfig.model_validate(SMOKE_SETTING)
    attacks = open_attacks(
        rewards,
        out=args.out,
        setting=setting,
        gate=args.gate,
        seeds=parse_seeds(args.seeds),
        budget=args.budget,
        records=args.records,
        say=_say,
    )
    failed = [] if args.report_only else run_attacks(attacks, workers=args.workers, start=args.start, say=_say)
    figures = attack_figures(attacks, rewards, args.gate)
    print(attack_markdown(figures))
    folder = args.out / figures["gate"]
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "attacks.json", figures)
    _write_json(args.json, figures)
    (folder / "attacks.svg").write_text(svg(figures), encoding="utf-8")
    if args.svg:
        args.svg.parent.mkdir(parents=True, exist_ok=True)
        args.svg.write_text(svg(figures), encoding="utf-8")
    if figures["rewards"]:
        print(f"page: {write_page(folder, figures)}")
    if args.markdown:
        write_markdown(args.markdown, figures["gate"], attack_markdown(figures))
    if failed:
        sys.exit(f"{len(failed)} attacks failed: {'; '.join(failed)}")
    return figures


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rewards", nargs="*", help="rewards to attack; default: all")
    parser.add_argument("--smoke", action="store_true", help="seconds: does it run?")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--setting", help="a setting of configs/ablation, or a YAML file; see the page on defaults")
    scripted = parser.add_argument_group("scripted cheats")
    scripted.add_argument("--hops", type=int, default=2)
    scripted.add_argument("--num-passages", type=int, default=10_000)
    scripted.add_argument("--questions", type=int, default=60)
    scripted.add_argument("--wordings", type=int, default=3, help="wordings of each question")
    scripted.add_argument("--samples", type=int, default=6, help="honest episodes of each wording")
    scripted.add_argument("--seed", type=int, default=0, help="of the world")
    scripted.add_argument(
        "--cold-start", type=Path, metavar="OUT", help="honest episodes by the policy in OUT/cold_start"
    )
    scripted.add_argument("--policy", type=Path, metavar="MODEL", help="with --cold-start: that of another model")
    scripted.add_argument("--check", action="store_true", help="exit 1 where a pair is not as known")
    trained = parser.add_argument_group("attacks by GRPO")
    trained.add_argument("--attack", action="store_true", help="train on each reward alone")
    trained.add_argument("--gate", choices=sorted(REPAIRS), help="train on this composition around each reward instead")
    trained.add_argument("--out", type=Path, default=Path("runs/attack"), help="testbeds, cold starts, runs, report")
    trained.add_argument("--start", type=Path, metavar="MODEL", help="begin with this policy, not with a cold start")
    trained.add_argument("--records", type=Path, help="folder of records; default: OUT/SETTING/records")
    trained.add_argument("--seeds", default="1", help="N for 0 to N-1, FIRST:END, or a list")
    trained.add_argument("--budget", type=int, help="sampled trajectories of a run; default: the setting's")
    trained.add_argument("--workers", type=int, default=1, help="runs at once")
    trained.add_argument("--report-only", action="store_true", help="run nothing")
    trained.add_argument("--svg", type=Path, help="also write the picture here")
    trained.add_argument("--markdown", type=Path, help="also write the table into this page, between its marks")
    args = parser.parse_args(arguments)
    if args.rewards and not args.attack:
        parser.error("rewards are named for --attack; the matrix has all of them")
    return args


def _write_json(path: Path | None, figures: dict[str, Any]) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(figures, indent=1, allow_nan=False)
        short = re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\n *", " ", found[0]), text)  # lists on one line
        path.write_text(short + "\n", encoding="utf-8")


def _counted(turns: NDArray[np.int64]) -> dict[str, int]:
    lengths, counts = np.unique(turns, return_counts=True)
    return {str(length): count for length, count in zip(lengths.tolist(), counts.tolist(), strict=True)}


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
