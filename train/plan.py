"""What a run will do, in words and numbers, before it does anything."""

from agent.protocol import encode_prompt
from train.assembly import Parts
from train.config import TrainConfig


def plan_of(config: TrainConfig, parts: Parts) -> str:
    """The plan as text: data, batch arithmetic, token budgets, credit and where the time goes."""
    sample = parts.train_questions[: min(200, len(parts.train_questions))]
    prompts = [len(encode_prompt(parts.protocol, q.text, parts.tokenizer)) for q in sample]
    per_step = config.trajectories_per_step
    dev = len(parts.dev_questions)
    epochs = config.steps * config.rollout.questions_per_step / len(parts.train_questions)
    limits = config.limits
    lines = [
        f"policy       {config.policy.model}, {config.learner.precision}",
        f"index        {config.data.index}: {parts.index.num_passages:,} passages, top {limits.top_k}",
        f"questions    {len(parts.train_questions):,} to train on ({epochs:.2f} epochs), {dev:,} dev",
        f"cold start   {_cold_start(config)}",
        f"batch        {config.rollout.questions_per_step} questions x {config.rollout.samples_per_question} samples = "
        f"{per_step} trajectories a step, {config.steps} steps, {per_step * config.steps:,} trajectories",
        f"budget       prompts of {min(prompts)} to {max(prompts)} tokens; {limits.max_turns} turns of at most "
        f"{limits.max_new_tokens_per_turn} new tokens and {limits.max_observation_tokens} observation tokens; "
        f"{limits.max_trajectory_tokens} tokens a trajectory",
        f"rewards      {', '.join(f'{weight:+g} {name}' for name, weight in parts.rewards.weights.items())}",
        f"credit       {config.credit.estimator}, loss {config.learner.loss_type}, lr {config.learner.learning_rate:g}",
        "process      one: engine and learner take turns on the same device",
    ]
    return "\n".join([*lines, *(f"warning      {warning}" for warning in parts.warnings)])


def _cold_start(config: TrainConfig) -> str:
    if config.cold_start is None:
        return "none"
    return "; then ".join(
        f"{phase.steps} steps of {phase.batch_size} demonstrations"
        + (f" cut after {phase.max_turns} actions" if phase.max_turns else "")
        for phase in config.cold_start.phases
    )
