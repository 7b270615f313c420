"""Several samples from one prompt, by an engine that samples one completion a request."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from agent.engine import Completion, SamplingParams


class _Generates(Protocol):
    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, *, key: str) -> Completion: ...


class SampleGroups:
    """Gives an engine `generate_n`."""

    async def generate_n(
        self: _Generates, prompt_ids: Sequence[int], params: SamplingParams, n: int, *, key: str
    ) -> list[Completion]:
        """Sample `n` completions of one prompt, at the same time: `[n]`.

        Sample `i` is what `generate` gives for `params.seed + i`, under the key `key#i`; an engine with prefix caching
        computes the prompt once. A deterministic schedule counts the `n` as `n` episodes: announce as many.

        Raises:
            ValueError: `n` below 1, or what `generate` raises it for.
            EngineError: one of them failed; the others are cancelled.
        """
        if n < 1:
            raise ValueError(f"n is {n}; at least 1 sample must be asked for")
        tasks = [
            asyncio.ensure_future(
                self.generate(prompt_ids, replace(params, seed=params.seed + i), key=f"{key}#{i:0{len(str(n - 1))}d}")
            )
            for i in range(n)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
