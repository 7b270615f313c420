"""An engine that says what it is told to, and one episode, or many at once, played with it over a small world."""

import asyncio
from contextlib import contextmanager

from agent.engine import Completion, SamplingParams
from agent.protocols.registry import load_protocol
from envs.actor import EngineActor
from envs.episode import EpisodeSpec, run_episode
from envs.episode_pool import run_episodes
from envs.search_env import EpisodeLimits, SearchEnv
from tests.envs.small_world import BRIDGE, PASSAGES, OverlapRetriever, byte_tokenizer, completion

TOKENIZER = byte_tokenizer()
WAYMARK = load_protocol("waymark")
LIMITS = EpisodeLimits(max_trajectory_tokens=6000, top_k=2)
SEARCH = "<search>Who founded Velmora?</search>"
ANSWER = "<answer>Quillon Bay [1]</answer>"


class FakeEngine:
    """Says what `say(key, turn)` returns, and keeps every request."""

    context_window = 8000
    version = 3

    def __init__(self, say) -> None:
        self._say = say
        self.requests: list[tuple[str, SamplingParams, tuple[int, ...]]] = []
        self.live = 0
        self.most_live = 0

    @contextmanager
    def episode(self):
        self.live += 1
        self.most_live = max(self.most_live, self.live)
        try:
            yield
        finally:
            self.live -= 1

    async def generate(self, prompt_ids, params, *, key) -> Completion:
        assert self.live > 0
        self.requests.append((key, params, tuple(prompt_ids)))
        await asyncio.sleep(0)
        episode, turn = key.rsplit("/", 1)
        said = self._say(episode, int(turn))
        if isinstance(said, Exception):
            raise said
        return completion(TOKENIZER, said)


def search_then_answer(episode: str, turn: int) -> str:
    return SEARCH if turn == 0 else ANSWER


async def found(query: str, k: int):
    return OverlapRetriever().search([query], k)[0]


async def document(name: str):
    return [p for p in PASSAGES if p.title == name]


def spec(id: str = "e0", question=BRIDGE, **fields) -> EpisodeSpec:
    return EpisodeSpec(id=id, question=question, unit_id="u", group_id="g", **fields)


async def play(engine: FakeEngine, search=found, limits: EpisodeLimits = LIMITS, **fields):
    env = SearchEnv(WAYMARK, TOKENIZER, limits)
    return await run_episode(spec(**fields), actor=EngineActor(engine, temperature=0.7), env=env, search=search)


async def play_all(specs, engine, search=found, **options):
    return await run_episodes(
        specs,
        actor=EngineActor(engine),
        search=search,
        protocol=WAYMARK,
        tokenizer=TOKENIZER,
        limits=LIMITS,
        **options,
    )
