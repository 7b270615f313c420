"""The model that RL starts from: the config's own, or the supervised start on a scripted demonstrator's episodes."""

from collections.abc import Callable
from pathlib import Path

from agent.trajectory import Trajectory
from envs.policies.demonstrations import make_demonstrations
from envs.policies.expert import ExpertPolicy
from envs.policies.registry import demonstrator
from train.assembly import Parts
from train.cold_start import cold_start
from train.config import ColdStartPhase, TrainConfig
from train.run_folder import RunFolder


def starting_model(config: TrainConfig, parts: Parts, run: RunFolder, say: Callable[[str], None]) -> str:
    """Path or id of the starting model; the cold start is made once and reused when the run goes on."""
    if config.cold_start is None:
        return config.policy.model
    if not run.cold_start.is_dir():
        make_cold_start(config, parts, run.cold_start, say)
    return str(run.cold_start)


def make_cold_start(config: TrainConfig, parts: Parts, out: Path, say: Callable[[str], None]) -> Path:
    """Demonstrate, imitate, and save the model folder at `out`."""
    settings = config.cold_start
    if settings is None:
        raise ValueError("cold_start is not set in the config")
    expert = ExpertPolicy(parts.protocol, settings.style)

    def demonstrate(phase: ColdStartPhase) -> list[Trajectory]:
        return make_demonstrations(
            parts.train_questions,
            demonstrator(expert, phase.rates),
            parts.index,
            protocol=parts.protocol,
            tokenizer=parts.tokenizer,
            limits=config.limits,
            count=phase.demonstrations,
            seed=config.seed,
        )

    return cold_start(
        config.policy.model,
        parts.tokenizer,
        demonstrate,
        out,
        settings,
        seed=config.seed,
        bf16=config.learner.precision == "bf16",
        trust_remote_code=config.policy.trust_remote_code,
        say=say,
    )
