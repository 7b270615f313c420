"""Two learner steps on one of several ranks that hold shards: `-m tests.train.fsdp_step POLICY OUT JSON` under
torch.distributed.run.

Accelerate shards on GPUs alone, though torch does on a CPU too: here it is told that these processes are such as it
shards on. Rank 0 writes what it logged, the policy's folder, and the learner's state.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from tests.train.fakes import random_trajectories
from tests.train.test_learner import rows_of
from train.learner import Learner
from train.learner_config import LearnerConfig

_begin = AcceleratorState.__init__


def _begin_sharded(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    _begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.fsdp_plugin = fsdp_plugin
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def main(policy: Path, out: Path, settings: dict[str, Any]) -> None:
    AcceleratorState.__init__ = _begin_sharded
    rank = int(os.environ["RANK"])
    config = LearnerConfig(device="cpu", trl={"fsdp": True, "fsdp_config": {"version": 2}}, **settings)
    learner = Learner.create(policy, None, config, out / "learner")
    assert learner.is_sharded
    assert config.trl["fsdp_config"] == {"version": 2}
    rows, known = rows_of(random_trajectories(11))
    mine = rows[:8] if rank == 0 else rows[8:]
    steps = [learner.update(mine, known)]
    if rank == 0:
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
