"""GRPO as the attacker: each reward alone, or repaired, from one cold start, with the machinery of `waymark ablate`.

An attack is a method made in memory. Its run leaves a record, so attacks resume, move and extend as comparisons do. The
trained reward is the attacked one; exact match is only measured, greedy on dev questions while training.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.red_team.known import REPAIRS
from rewards.bounds import bounds_of
from rewards.registry import REWARDS
from rewards.reward import RewardContext
from train.ablation import Ablation
from train.ablation_setting import SettingConfig, load_setting
from train.ablation_workers import run_here
from train.config_file import ConfigError
from train.method import Method, MethodConfig, Need

ALONE = "alone"
"""What an attack without a repair is called."""

DEFAULT_SETTING = "2hops"
SETTINGS: Mapping[str, str] = {
    "judgement": "2hops_stating",  # its protocol has tags for statements
    "reflection": "2hops_stating",
    "citation_rubric": "2hops_citing",  # its start sometimes cites both passages, and so earns something
}
"""For rewards that the default setting has nothing to pay with."""

PARAMS: Mapping[str, Mapping[str, Any]] = {"judgement": {"required": True}, "reflection": {"required": True}}
"""As their recipes have them: where the protocol asks for statements, silence is wrong."""

_STATED = frozenset(PARAMS)
_COMPARES_WORDINGS = frozenset({"consistency", "agreement"})
_NEEDS: Mapping[str, Need] = {"supporting_ids": "supports", "hops": "hops", "paraphrases": "paraphrases"}

SMOKE_SETTING: dict[str, Any] = {
    "title": "Seconds",
    "provides": ["supports", "hops", "paraphrases", "stating"],
    "testbed": {
        "world": {"preset": "tiny", "hops": [2], "seed": 3, "dev_questions": 20, "test_questions": 20},
        "protocol": "waymark_stating",
        "policy": {"hidden_size": 32, "num_layers": 2, "num_heads": 2},
    },
    "train": {
        "protocol": {"name": "waymark_stating"},
        "limits": {
            "max_turns": 3,
            "top_k": 2,
            "max_new_tokens_per_turn": 24,
            "max_observation_tokens": 160,
            "max_trajectory_tokens": 600,
        },
        "rollout": {"questions_per_step": 2, "samples_per_question": 4},
        "rewards": {"exact_match": {"weight": 1.0}},
        "credit": {"estimator": "outcome"},
        "learner": {"learning_rate": 1e-3},
        "data": {"dev_limit": 4},
        "cold_start": {"phases": [{"demonstrations": 32, "steps": 4, "batch_size": 8}]},
        "evaluate_every": 1,
        "save_trajectories": False,
    },
    "budget": 16,
    "test_limit": 4,
}
"""Two steps of eight trajectories: does it run?"""


def attack_name(reward: str, gate: str | None = None) -> str:
    """Under what an attack's runs and records lie."""
    return f"{gate or ALONE}_{reward}"


def attack_method(reward: str, setting: SettingConfig, gate: str | None = None) -> Method:
    """The method that trains on a reward alone, or (with `gate`, a name of `REPAIRS`) on its repaired composition.

    Credit is the plain GRPO outcome, the sum of a reward's turns and outcome; `hop_potential`, whose sum is 0, is
    credited by turn. Rewards that compare wordings are sampled as paraphrase sets, with a baseline for each wording.

    Raises:
        ConfigError: no such reward or gate, or a reward that is a part of the gate or cannot stand in its product.
    """
    if reward not in REWARDS:
        raise ConfigError(f"no reward {reward!r}; there are {', '.join(REWARDS)}")
    if gate is not None and gate not in REPAIRS:
        raise ConfigError(f"no gate {gate!r}; there are {', '.join(REPAIRS)}")
    params = PARAMS.get(reward)
    overrides: dict[str, Any] = {
        "rewards": {reward: {"weight": 1.0, **({"params": dict(params)} if params else {})}},
        "credit": {"estimator": "turn" if reward == "hop_potential" else "outcome"},
    }
    made = REWARDS[reward](_NO_CORPUS)
    if gate is not None:
        if "bottom_line" in REPAIRS[gate].section(reward) and bounds_of(made, correct=True, max_turns=4).high <= 0:
            raise ConfigError(f"{reward} is never above 0, so it is no bottom line of a product; take another gate")
        try:
            overrides["rewards"] = REPAIRS[gate].rewards(reward, params)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if section := REPAIRS[gate].section(reward):
            overrides |= {"composition": section, "credit": {"estimator": "outcome"}}
    if reward in _COMPARES_WORDINGS:
        overrides |= _paraphrase_sets(setting.train.get("rollout", {}))
    needs = [_NEEDS[name] for name in sorted(made.needs) if name in _NEEDS]
    if reward in _COMPARES_WORDINGS and "paraphrases" not in needs:
        needs.append("paraphrases")
    return Method(
        name=attack_name(reward, gate),
        config=MethodConfig(
            title=f"{reward} {ALONE}" if gate is None else f"{reward}, {gate}",
            source="Waymark",
            tier="candidate",
            summary=f"{reward} alone." if gate is None else f"{reward}: {REPAIRS[gate].summary}.",
            needs=(*needs, "stating") if reward in _STATED else tuple(needs),
            overrides=overrides,
        ),
    )


def attackable(gate: str | None) -> list[str]:
    """All rewards that can be attacked alone, or that the gate can hold."""
    found = []
    for reward in REWARDS:
        try:
            attack_method(reward, SettingConfig.model_validate(SMOKE_SETTING), gate)
        except ConfigError:
            continue
        found.append(reward)
    return found


def open_attacks(
    rewards: Sequence[str],
    *,
    out: Path,
    setting: str | SettingConfig | None = None,
    gate: str | None = None,
    seeds: Sequence[int] = (0,),
    budget: int | None = None,
    records: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Ablation]:
    """Attacks on these rewards as comparisons, one for each setting, in `out/SETTING`; every config is checked.

    Without a `setting` each reward is attacked under its own of `SETTINGS`, the others under `DEFAULT_SETTING`.

    Raises:
        ConfigError: what cannot be run.
    """
    by_setting: dict[str, list[str]] = {}
    for reward in rewards:
        name = setting if isinstance(setting, str) else SETTINGS.get(reward, DEFAULT_SETTING)
        by_setting.setdefault("smoke" if isinstance(setting, SettingConfig) else name, []).append(reward)
    opened = []
    for reference, names in by_setting.items():
        found = setting if isinstance(setting, SettingConfig) else load_setting(reference)
        found = found.model_copy(update={"consistency_limit": 0})  # asked of no attack, and most of its evaluation
        name = Path(reference).stem
        opened.append(
            Ablation(
                name=name,
                setting=found,
                methods=[attack_method(reward, found, gate) for reward in names],
                seeds=seeds,
                out=out / name,
                budget=budget,
                records=records / name if records else None,
                say=say,
            )
        )
    return opened


def run_attacks(
    attacks: Sequence[Ablation], *, workers: int, say: Callable[[str], None], start: Path | None = None
) -> list[str]:
    """Make the runs that have no record yet; returns a line for each that failed.

    They begin with the setting's cold start, or with `start`: a model trained under the same setting, such as one whose
    EM is high enough to fall. A copy of it takes the cold start's place in the folder.

    Raises:
        ConfigError: `start` is no folder, or the folder has begun with a policy already.
    """
    failed: list[str] = []
    for attack in attacks:
        missing = attack.missing()
        if missing:
            if start is None:
                attack.prepare()
            else:
                _begin_with(start, attack)
                attack.study.prepare()
            say(f"{attack.name}: {len(missing)} attacks of {attack.budget:,} trajectories to make")
            jobs = [attack.job(method, seed) for method, seed in missing]
            failed += run_here(jobs, workers=workers, logs=attack.out / "logs", say=say)
    return failed


def _begin_with(start: Path, attack: Ablation) -> None:
    place, name = attack.study.cold_start, attack.out / "start.txt"
    if not start.is_dir():
        raise ConfigError(f"--start: {start} is no folder of a model")
    if place.exists():
        if name.exists() and name.read_text(encoding="utf-8") == str(start.resolve()):
            return
        raise ConfigError(f"--start: attacks in {attack.out} begin with another policy; give another --out")
    attack.out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(start, place)
    name.write_text(str(start.resolve()), encoding="utf-8")


def _paraphrase_sets(rollout: Mapping[str, Any]) -> dict[str, Any]:
    """As many trajectories a step as the setting has, in sets of several wordings."""
    per_step = rollout.get("questions_per_step", 12) * rollout.get("samples_per_question", 8)
    wordings, samples = (4, 4) if per_step % 16 == 0 else (2, 2)
    return {
        "rollout.questions_per_step": max(1, per_step // (wordings * samples)),
        "rollout.unit": {"kind": "paraphrase_set", "wordings": wordings, "samples_per_wording": samples},
    }


def _no_passage(passage_id: str) -> Any:
    raise KeyError(passage_id)


_NO_CORPUS = RewardContext(passage=_no_passage, corpus=list)
"""Enough to ask a reward what it needs."""
