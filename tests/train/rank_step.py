"""One learner step on one of several ranks: `-m tests.train.rank_step POLICY OUT JSON` under torch.distributed.run.

Saves the gradients that the ranks agreed on, and the metrics of this rank.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tests.train.fakes import random_trajectories
from tests.train.test_learner import gradients, rows_of
from train.learner import Learner
from train.learner_config import LearnerConfig


def main(policy: Path, out: Path, settings: dict[str, Any]) -> None:
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    learner = Learner.create(policy, None, LearnerConfig(device="cpu", **settings), out / "learner")
    clip = learner.accelerator.clip_grad_norm_

    def keep(*args: Any, **kwargs: Any) -> Any:
        caught = {n.removeprefix("module."): g for n, g in gradients(learner).items()}
        save_file(caught, out / f"gradients-{rank}.safetensors")
        return clip(*args, **kwargs)

    learner.accelerator.clip_grad_norm_ = keep
    rows, known = rows_of(random_trajectories(11))
    mine = rows[:8] if rank == 0 else rows[8 : 8 + 3 * (world_size - 1)]
    metrics = learner.update(mine, known)
    (out / f"metrics-{rank}.json").write_text(json.dumps(metrics))
    learner.accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
    os._exit(0)  # a thread of gloo that asks for the GIL while Python is being taken down aborts the process
