"""From a checked config to the parts of a run, cheapest first: the light is checked before the heavy is loaded."""

import heapq
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from transformers import PreTrainedTokenizerBase

from agent.engines.loading import load_model_config, model_window
from agent.hugging_face import load_tokenizer
from agent.protocol import AgentProtocol
from agent.protocols.registry import load_protocol
from envs.datasets import check_supports_in, read_questions
from envs.noise import noise_warnings
from envs.question import Question
from envs.search_env import SearchEnv
from evaluation.consistency import check_wordings
from retrieval.access import DocumentReader
from retrieval.ready import ready_retriever
from retrieval.retriever import CorpusElsewhere, OpenRetriever, RetrievalError, corpus_of
from rewards.compose import Composition, build_rewards
from rewards.reward import PassageRows, RewardContext, StatefulReward
from train.composition_check import check_composition
from train.config import TrainConfig
from train.config_file import ConfigError
from train.credit import check_rewards, load_estimator
from train.credit.row import CreditEstimator
from train.reward_check import refuse_protocol_without
from train.runtime_config import RaySettings
from train.tracking import check_tracker
from train.unit_config import ParaphraseSetUnit, check_paraphrases, refuse_blind_refinement

ENCODED_AT_MOST = 20_000
"""So many questions are encoded before a run, to see that their prompts fit; of more, those with most characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything of a run but its model: opened index, questions, protocol, tokenizer, rewards, credit.

    `index` is any retriever that `data.index` names. A context manager, which closes it.
    """

    index: OpenRetriever
    train_questions: list[Question]
    dev_questions: list[Question]
    protocol: AgentProtocol
    tokenizer: PreTrainedTokenizerBase
    rewards: Composition
    estimator: CreditEstimator
    warnings: tuple[str, ...]

    @property
    def questions_by_id(self) -> dict[str, Question]:
        """Training questions by id, as rewards want them."""
        return {q.id: q for q in self.train_questions}

    def close(self) -> None:
        """Give files and connections back."""
        self.index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def assemble(config: TrainConfig) -> Parts:
    """Open and check the parts.

    Raises:
        ValueError: (or a subclass) whatever is wrong with files, annotations or limits, with what to do about it.
    """
    config.learner.to_grpo_config(Path(), total_steps=config.steps)  # TRL checks its own settings
    check_tracker(config.tracker)
    protocol = load_protocol(config.protocol.name, **config.protocol.overrides)
    estimator = load_estimator(config.credit.estimator, **config.credit.params)
    train_questions = read_questions(config.data.train_questions, format=config.data.format)
    dev_questions = (
        read_questions(config.data.dev_questions, format=config.data.format)[: config.data.dev_limit]
        if config.data.dev_questions
        else []
    )
    _refuse_overlap(train_questions, dev_questions)
    if config.evaluate_wordings and config.evaluate_every:
        check_wordings(dev_questions, config.evaluate_wordings)
    used = {name: term.use or name for name, term in config.rewards.items()}
    check_paraphrases(config.rollout.unit, train_questions, source=str(config.data.train_questions), rewards=used)
    with ExitStack() as opened:
        index = opened.enter_context(
            ready_retriever(
                config.data.index,
                top_k=config.limits.top_k,
                example=train_questions[0].text if train_questions else None,
                max_query_chars=config.limits.max_query_chars,
                corpus_index=config.data.corpus_index,
            )
        )
        if protocol.offers_open:
            DocumentReader(index).check()
        rewards = build_rewards(
            config.rewards,
            RewardContext(passage=index.get, corpus=lambda: _corpus(config, index)),
            rule=config.composition.rule,
            total_steps=config.planned_steps,
        )
        refuse_protocol_without(rewards.rewards, protocol)
        unsure = check_parts(config, rewards, estimator)
        rewards.check(train_questions, source=str(config.data.train_questions))
        tokenizer = _checked_tokenizer(config, protocol, [*train_questions, *dev_questions])
        warnings = unsure + _of_noise(config, train_questions, dev_questions)
        warnings += _missing_supports({"train": train_questions, "dev": dev_questions}, index)
        opened.pop_all()
    return Parts(
        index=index,
        train_questions=train_questions,
        dev_questions=dev_questions,
        protocol=protocol,
        tokenizer=tokenizer,
        rewards=rewards,
        estimator=estimator,
        warnings=warnings,
    )


def check_parts(config: TrainConfig, rewards: Composition, estimator: CreditEstimator) -> tuple[str, ...]:
    """See that rewards, credit, units and runtime fit each other; returns warnings. No question is looked at.

    Raises:
        ValueError: they do not; the message has the way out.
    """
    check_rewards(estimator, rewards)
    _refuse_units_elsewhere(config, rewards)
    refuse_blind_refinement(config.rollout.unit, rewards.rewards)
    unsure = check_composition(config, rewards)
    _refuse_state_that_runs_ahead(config, rewards)
    _refuse_winners_elsewhere(config, rewards)
    return unsure


def _corpus(config: TrainConfig, index: OpenRetriever) -> PassageRows:
    """The passages by row, on this machine."""
    try:
        return corpus_of([index])
    except CorpusElsewhere as error:
        raise CorpusElsewhere(
            f"data.index is {config.data.index}, a server, which gives single passages only: set data.corpus_index to "
            "an index folder over the same corpus on this machine"
        ) from error


def _checked_tokenizer(
    config: TrainConfig, protocol: AgentProtocol, questions: Sequence[Question]
) -> PreTrainedTokenizerBase:
    """The policy's tokenizer, with which every prompt fits."""
    tokenizer = load_tokenizer(config.policy.model, trust_remote_code=config.policy.trust_remote_code)
    model_config = load_model_config(config.policy.model, trust_remote_code=config.policy.trust_remote_code)
    environment = SearchEnv(protocol, tokenizer, config.limits)
    unit = config.rollout.unit
    more = unit.wordings - 1 if isinstance(unit, ParaphraseSetUnit) else 0
    texts = [text for question in questions for text in (question.text, *question.paraphrases[:more])]
    for text in heapq.nlargest(ENCODED_AT_MOST, texts, key=len):
        environment.encode_prompt(text, context_window=model_window(model_config))
    return tokenizer


def _of_noise(config: TrainConfig, train: Sequence[Question], dev: Sequence[Question]) -> tuple[str, ...]:
    """Warnings of questions with which noise does less than it says, or nothing."""
    noise = config.rollout.noise
    if noise is None:
        return ()
    warnings: tuple[str, ...] = ()
    if noise.start or noise.end:
        warnings += noise_warnings(train, "training questions")
    if noise.evaluation:
        warnings += noise_warnings(dev, "dev questions")
    return warnings


def _missing_supports(questions_of: Mapping[str, Sequence[Question]], index: OpenRetriever) -> tuple[str, ...]:
    """One warning for each split with supports that the index lacks."""
    try:
        checks = {split: check_supports_in(index, questions) for split, questions in questions_of.items()}
    except RetrievalError as error:
        raise ConfigError(f"data.index: the corpus cannot be asked for the questions' supports: {error}") from error
    return tuple(f"{split} questions: {check.message()}" for split, check in checks.items() if not check.ok)


def _refuse_state_that_runs_ahead(config: TrainConfig, rewards: Composition) -> None:
    """Units that are scored to see whether they teach anything, and then not learnt from where they were scored, would
    leave their mark on a reward's state there alone.
    """
    learners = config.runtime.learners if isinstance(config.runtime, RaySettings) else 1
    stale = config.rollout.max_staleness
    if config.rollout.zero_variance != "resample" or not rewards.is_stateful or (learners == 1 and not stale):
        return
    names = ", ".join(sorted(name for name, reward in rewards.rewards.items() if isinstance(reward, StatefulReward)))
    raise ConfigError(
        f"rollout.zero_variance is resample and the reward {names} keeps a state, with runtime.learners {learners} and "
        f"rollout.max_staleness {stale}: groups are scored apart from the step that takes them, so that state would "
        "differ between processes and after --resume; set zero_variance: drop or keep, or one learner and "
        "max_staleness: 0"
    )


def _refuse_units_elsewhere(config: TrainConfig, rewards: Composition) -> None:
    """A reward that compares wordings says nothing of any other unit: it would be NaN from first to last."""
    kind = config.rollout.unit.kind
    for name, reward in rewards.rewards.items():
        kinds = getattr(reward, "unit_kinds", None)
        if kinds and kind not in kinds:
            raise ConfigError(
                f"rewards.{name} scores units of kind {' or '.join(sorted(kinds))} alone, and rollout.unit is {kind}, "
                f"of which it would score nothing: set rollout.unit: {sorted(kinds)[0]}, or leave the reward out"
            )


def _refuse_winners_elsewhere(config: TrainConfig, rewards: Composition) -> None:
    """A branch's winner is drawn by the rewards of now, which the process that samples has to know."""
    learners = config.runtime.learners if isinstance(config.runtime, RaySettings) else 1
    stale = config.rollout.max_staleness
    if config.rollout.unit.kind not in ("branch", "refine") or (learners == 1 and not stale):
        return
    names = sorted(name for name, reward in rewards.rewards.items() if isinstance(reward, StatefulReward))
    names += sorted(name for name, term in rewards.terms.items() if term.schedule and name not in names)
    if names:
        raise ConfigError(
            f"rollout.unit is {config.rollout.unit.kind} and the reward {', '.join(names)} keeps a state or has a "
            f"schedule, with runtime.learners {learners} and rollout.max_staleness {stale}: what samples would not "
            "know the state of the step that learns; use one learner and max_staleness: 0"
        )


def _refuse_overlap(train_questions: Sequence[Question], dev_questions: Sequence[Question]) -> None:
    """Evaluating on what is trained on measures memory."""
    known = {q.text for q in train_questions}
    both = [q.id for q in dev_questions if q.text in known]
    if both:
        raise ConfigError(
            f"{len(both)} dev questions are also training questions (first: {both[0]}): give dev questions of their own"
        )
