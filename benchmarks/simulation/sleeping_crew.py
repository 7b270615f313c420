"""What the benchmarks of Ray are made of: an engine and a search that sleep, and real episodes between them.

The engine's completion has ids and a length that follow from the request's seed, and takes that many decoding steps of
a fixed time, whatever else it serves: an engine that is never full. The search takes a fixed time and finds passages of
100 words, as the field's Wikipedia indexes hold. Everything else is what a run uses: environment, protocol, tokenizer,
crew. Workers import this module, so it needs no torch; `make_tokenizer` alone does, and runs in the driver.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from agent.engine import Completion, SamplingParams
from agent.protocols.registry import load_protocol
from agent.trajectory import Trajectory
from envs.actor import stable_seed
from envs.engine_server import RemoteActor
from envs.episode import EpisodeSpec
from envs.episode_worker import EpisodeWorker
from envs.question import Question
from envs.search_env import EpisodeLimits
from retrieval.passage import Hit, Passage

PROTOCOL = load_protocol("waymark")
LIMITS = EpisodeLimits(
    max_turns=6, top_k=3, max_new_tokens_per_turn=512, max_trajectory_tokens=4096, max_observation_tokens=600
)
SHARE_OF_ANSWERS = 0.3
"""Of the turns: 3 turns an episode in the mean, at most `max_turns`."""
_WINDOW = 8192
_SYLLABLES = ("ka", "lo", "mi", "ter", "van", "zu", "rin", "do", "sel", "pa", "quor", "ne")
WORDS = tuple(a + b for a in _SYLLABLES for b in _SYLLABLES)
_PASSAGES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things take: a decoding step, a search; and how many tokens a turn has in the median."""

    step_s: float
    search_s: float
    tokens: int = 64

    @property
    def turn_s(self) -> float:
        """Seconds that a turn of median length is sampled."""
        return self.tokens * self.step_s

    def length(self, rng: random.Random) -> int:
        """Tokens of one turn: log-normal around the median, at most three times it."""
        return max(16, min(3 * self.tokens, round(self.tokens * rng.lognormvariate(0, 0.5))))


class SleepingEngine:
    """Says what the request's seed says, in the time that decoding it would take. An `agent.engine.Engine`."""

    context_window = _WINDOW

    def __init__(self, folder: Path, pace: Pace) -> None:
        tokenizer = load_tokenizer(folder)
        self._word_ids = [tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in WORDS]
        self._tags = {
            tag: tuple(tokenizer.encode(tag, add_special_tokens=False))
            for pair in (PROTOCOL.search, PROTOCOL.answer)
            for tag in pair
        }
        self._pace = pace
        self.version = 0

    @contextmanager
    def episode(self) -> Iterator[None]:
        """Nothing to announce."""
        yield

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, *, key: str) -> Completion:
        """A thought, and a query of six words or an answer of two."""
        rng = random.Random(params.seed)
        (opened, closed), words = (PROTOCOL.answer, 2) if rng.random() < SHARE_OF_ANSWERS else (PROTOCOL.search, 6)
        said = (*self._tags[opened], *rng.choices(self._word_ids, k=words), *self._tags[closed])
        thought = min(self._pace.length(rng), params.max_new_tokens) - len(said)
        ids = (*rng.choices(self._word_ids, k=max(0, thought)), *said)
        logprobs = tuple(-rng.random() for _ in ids)
        await asyncio.sleep(len(ids) * self._pace.step_s)
        return Completion(token_ids=ids, logprobs=logprobs, versions=(self.version,) * len(ids), finish="stop")

    def update_weights(self, named_tensors: Iterable[tuple[str, Any]], version: int) -> None:
        """Takes the version alone."""
        self.version = version

    def score(self, token_ids: Sequence[int], *, temperature: float = 1.0) -> list[float]:
        """Zeros."""
        return [0.0] * len(token_ids)

    async def close(self) -> None:
        """Nothing to release."""


class SleepingSearch:
    """Finds passages of 100 words by the query's name, after a fixed time."""

    def __init__(self, seconds: float) -> None:
        rng = random.Random(0)
        self._seconds = seconds
        self._passages = [
            Passage(id=str(i), title=f"Page {i}", text=" ".join(rng.choices(WORDS, k=100))) for i in range(_PASSAGES)
        ]

    async def __call__(self, query: str, k: int) -> list[Hit]:
        """The first `k` of a query's own order of passages."""
        await asyncio.sleep(self._seconds)
        found = random.Random(query).sample(self._passages, k)
        return [Hit(passage=passage, score=1.0 / rank, rank=rank) for rank, passage in enumerate(found, start=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeEngine:
    """Opens the engine in its process."""

    folder: Path
    pace: Pace

    def __call__(self) -> Any:
        """The engine."""
        return SleepingEngine(self.folder, self.pace)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeWorker:
    """Makes a worker in its process."""

    folder: Path
    pace: Pace
    max_concurrent: int

    def __call__(self, ask_engine: Callable[..., Awaitable[Completion]], replicas: Any = None) -> EpisodeWorker:
        """The worker; it searches in its own process."""
        return EpisodeWorker(
            actor=RemoteActor(ask_engine, context_window=_WINDOW),
            search=SleepingSearch(self.pace.search_s),
            protocol=PROTOCOL,
            tokenizer=load_tokenizer(self.folder),
            limits=LIMITS,
            max_concurrent=self.max_concurrent,
        )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that `save_tokenizer` wrote."""
    return PreTrainedTokenizerFast.from_pretrained(folder)


def save_tokenizer(folder: Path) -> Path:
    """A tokenizer to which each word is one token."""
    from agent.tiny import build_tokenizer

    texts = [" ".join(WORDS), f" {' '.join(WORDS)}", *(f"Page {i}" for i in range(_PASSAGES)), PROTOCOL.prompt]
    build_tokenizer(texts, tags=PROTOCOL.tags).save_pretrained(folder)
    return folder


def sleeping_spec(number: int, *, prefix: str, samples: int = 4) -> EpisodeSpec:
    """An episode over an invented question, in a group of `samples`; equal numbers have equal seeds in every prefix."""
    unit, sample = divmod(number, samples)
    rng = random.Random(unit)
    text = f"Who was {' '.join(rng.choices(WORDS, k=10))}?"
    unit_id = f"{prefix}-unit{unit:05d}"
    return EpisodeSpec(
        id=f"{unit_id}-sample{sample:02d}",
        question=Question(id=f"q{unit}", text=text, golden_answers=(rng.choice(WORDS),)),
        unit_id=unit_id,
        group_id=unit_id,
        sample=sample,
        seed=stable_seed(7, number),
    )


def told(trajectory: Trajectory) -> tuple[object, ...]:
    """What two plays of one episode have in common."""
    name = trajectory.id.split("-", 1)[1]
    return name, trajectory.finish_reason, trajectory.prompt_ids, tuple(turn.action_ids for turn in trajectory.turns)
