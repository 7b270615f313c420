"""The cold-started policies that the built-in settings begin with, in configs/ablation/starts.

Processor, threads and versions change the bits of a cold start, and its bits change what a method is worth after it. So
the policies that the published comparisons began with are kept, rounded to bfloat16 once: a comparison on another
machine begins with the same weights, and can be paired with them. A folder holds a model and `made_with.json`, the
testbed and the cold start it was made with. A setting that asks for other ones has its cold start made.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from agent.engines.loading import load_model
from evaluation.comparability import describe_model
from train.changed_settings import differences
from train.cold_start_record import ColdStartRecord
from train.config_file import ConfigError
from train.method import configs_folder
from train.testbed import TestbedConfig

MADE_WITH = "made_with.json"

NOT_COPIED = (MADE_WITH, "measured.json")
"""What lies beside a kept policy and is no part of it."""

COPIED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def start_folder(name: str) -> Path:
    """Where the kept policy of this name lies."""
    return configs_folder() / "ablation" / "starts" / name


def made_with(testbed: TestbedConfig, cold_start: ColdStartRecord) -> dict[str, Any]:
    """What decides the weights of a cold start, in plain JSON types with every default filled in."""
    return {"testbed": testbed.model_dump(mode="json"), **cold_start.model_dump(mode="json")}


def keep_start(policy: Path, testbed: TestbedConfig, cold_start: ColdStartRecord, out: Path) -> None:
    """Keep a cold-started policy at `out`, with its weights rounded to bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    load_model(policy).to(torch.bfloat16).save_pretrained(out)
    for name in COPIED:
        if not (out / name).exists():
            shutil.copyfile(policy / name, out / name)
    text = json.dumps(made_with(testbed, cold_start), indent=1)
    (out / MADE_WITH).write_text(text + "\n", encoding="utf-8")


def lay_start(
    name: str, testbed: TestbedConfig, cold_start: ColdStartRecord, target: Path, say: Callable[[str], None]
) -> bool:
    """Copy the kept policy to `target`, if it was made with these settings; whether it was.

    Raises:
        ConfigError: no policy of this name is kept, or `target` holds another one though the kept one should be there.
    """
    kept = start_folder(name)
    if not (kept / MADE_WITH).is_file():
        raise ConfigError(f"start: no policy is kept at {kept}; null has the cold start made")
    recorded = json.loads((kept / MADE_WITH).read_text(encoding="utf-8"))
    different = [leaf for leaf, _, _ in differences(recorded, made_with(testbed, cold_start))]
    if different:
        say(f"a cold start is made, for the one that is kept was made with another {', '.join(different[:3])}")
        return False
    if not target.exists():
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(kept, partial, ignore=shutil.ignore_patterns(*NOT_COPIED))
        partial.replace(target)
    elif describe_model(target) != {**(describe_model(kept) or {}), "name": target.name}:
        raise ConfigError(
            f"{target} is another policy than the setting's start {name!r}: choose another folder, or go on with that "
            "policy by start=null"
        )
    return True
