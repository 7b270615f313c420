"""An engine over a small random model, under both schedules."""

import asyncio
from collections.abc import Iterator

import pytest

from agent.engines.transformers import TransformersEngine
from tests.agent.engines.small_engine import TOKENIZER, llama


@pytest.fixture(params=["eager", "deterministic"])
def engine(request: pytest.FixtureRequest) -> Iterator[TransformersEngine]:
    made = TransformersEngine(llama(), TOKENIZER, schedule=request.param, max_batch=4, eos_token_ids=())
    yield made
    asyncio.run(made.close())
