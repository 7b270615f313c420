"""Two learner steps on one of several ranks that hold shards: `-m tests.train.fsdp_step POLICY OUT JSON` under
torch.distributed.run.

Accelerate shards on GPUs alone, though torch does on a CPU too: here it is told that these processes are such as it
shards on, and given its precision as it is there. Rank 0 writes what it logged and scored, the precisions that the
policy's and the reference's shards have and how many units they are, the policy's folder, and the learner's state.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule

from tests.train.fakes import random_trajectories
from tests.train.test_learner import rows_of
from train.learner import Learner
from train.learner_config import LearnerConfig

_begin = AcceleratorState.__init__


def _begin_sharded(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    _begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.fsdp_plugin = fsdp_plugin
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def units(model: torch.nn.Module) -> list[FSDPModule]:
    """The parts that are put together each at once."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def precisions(model: torch.nn.Module) -> list[list[str]]:
    """What the shards are gathered in, their gradients summed in, and outputs cast to: each kind once."""
    policies = [module._get_fsdp_state()._mp_policy for module in units(model)]
    return sorted({(str(p.param_dtype), str(p.reduce_dtype), str(p.output_dtype)) for p in policies})  # type: ignore[arg-type]


def main(policy: Path, out: Path, settings: dict[str, Any]) -> None:
    AcceleratorState.__init__ = _begin_sharded
    rank = int(os.environ["RANK"])
    config = LearnerConfig(device="cpu", trl={"fsdp": True, "fsdp_config": {"version": 2}}, **settings)
    learner = Learner.create(policy, None, config, out / "learner")
    assert learner.is_sharded
    assert config.trl["fsdp_config"] == {"version": 2}
    rows, known = rows_of(random_trajectories(11))
    mine = rows[:8] if rank == 0 else rows[8:]
    scores = learner.score(rows, known)
    steps = [learner.update(mine, known)]
    if rank == 0:
        np.save(out / "scores.npy", np.concatenate(scores))
        sharded = [model for model in (learner.model, learner.ref_model) if model is not None]
        (out / "precisions.json").write_text(json.dumps([precisions(model) for model in sharded]))
        (out / "units.json").write_text(json.dumps([len(units(model)) for model in sharded]))
        learner.save_model_folder(out / "model")
        learner.save_state(out / "state", beside=out / "model")
    else:
        learner.attend_reading(state=True)
    torch.distributed.barrier()
    steps.append(learner.update(mine, known))
    learner.load_state(out / "state")
    steps.append(learner.update(mine, known))
    if rank == 0:
        (out / "steps.json").write_text(json.dumps(steps))
    learner.accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
    os._exit(0)  # a thread of gloo that asks for the GIL while Python is being taken down aborts the process
