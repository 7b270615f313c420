"""An engine over a small random model, under both schedules; and what happens to tests of vLLM where there is none."""

import asyncio
import importlib.util
from collections.abc import Iterator

import pytest

from agent.engines.transformers import TransformersEngine
from tests.agent.engines.small_engine import TOKENIZER, llama


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of vLLM where it is not installed; where it is, none of them is."""
    if importlib.util.find_spec("vllm") is None:
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed (docs/install.md)"))


@pytest.fixture(params=["eager", "deterministic"])
def engine(request: pytest.FixtureRequest) -> Iterator[TransformersEngine]:
    made = TransformersEngine(llama(), TOKENIZER, schedule=request.param, max_batch=4, eos_token_ids=())
    yield made
    asyncio.run(made.close())
