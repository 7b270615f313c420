"""The interface of an inference engine: token ids in, token ids and their logprobs out.

An engine never sees text: prompts arrive as ids, completions leave as ids with the processed logprobs (at the sampling
temperature) and the policy version that sampled each token.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:  # processes that play episodes import this module and no torch
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one completion is sampled.

    `temperature` 0 is greedy (logprobs then at temperature 1). `top_p` 1 and `top_k` 0 are off; training refuses
    anything else. `stop` strings end the completion and stay in it. Equal `seed` and prompt give an equal sample.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What one request got. The three tuples have equal length; `finish` says why sampling ended.

    `versions` is the policy version that sampled each token. `exact` is False where a served model gave text alone: the
    ids were then encoded from it and the logprobs are 0, which serves an evaluation and is refused for training.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    versions: tuple[int, ...]
    finish: Literal["stop", "eos", "length"]
    exact: bool = True


class EngineError(RuntimeError):
    """The engine failed to sample. Not the policy's fault."""


class Engine(Protocol):
    """A policy that can be sampled and whose weights can be replaced in place."""

    @property
    def version(self) -> int:
        """Version of the weights that sample now."""
        ...

    @property
    def context_window(self) -> int:
        """Most tokens, prompt and completion together, that the model takes."""
        ...

    def episode(self) -> AbstractContextManager[None]:
        """Announce a live episode; the deterministic schedule waits until every live episode has asked."""
        ...

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, *, key: str) -> Completion:
        """Sample one completion. `key` orders requests inside a deterministic batch.

        Raises:
            ValueError: an empty prompt, or one that leaves no room in the context window.
            EngineError: the engine failed.
        """
        ...

    def update_weights(self, named_tensors: Iterable[tuple[str, "torch.Tensor"]], version: int) -> None:
        """Replace weights by name and set the version."""
        ...

    def score(self, token_ids: Sequence[int], *, temperature: float = 1.0) -> list[float]:
        """Logprob of each token given those before it; the first is 0.0: `[num_tokens]`."""
        ...

    async def close(self) -> None:
        """Release what the engine started."""
        ...


@runtime_checkable
class Sleeper(Protocol):
    """An engine that can give its GPU's memory to a learner on the same GPU, and take it back."""

    def sleep(self) -> None:
        """Give back the memory of weights, keys and values, once what runs has ended. New requests wait.

        Raises:
            EngineError: the engine failed.
        """
        ...

    def wake(self) -> None:
        """Take the memory back. The weights are lost: requests go on waiting until `update_weights`.

        Raises:
            EngineError: the engine failed, or its memory is taken.
        """
        ...
