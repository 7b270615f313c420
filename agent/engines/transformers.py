"""The embedded engine: any Hugging Face causal language model, decoded in this process.

Requests wait in a queue; one worker thread decodes all rows together, a token a step, so the event loop stays free to
serve searches meanwhile (torch releases the interpreter while it computes). Two schedules:

- "eager": a request joins the running batch between two steps, as soon as enough are waiting to be worth a prefill.
- "deterministic": a round starts when every live episode has asked, and runs in chunks sorted by key; what is batched
  with what then depends on keys alone, never on timing. The price: a round waits for the slowest search.

Weights may be replaced between any two steps; every token carries the version that sampled it.
"""

import asyncio
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.decode_batch import DecodeBatch, Request, accepted_arguments
from agent.engines.loading import check_cache, eos_tokens, load_model, model_window, takes_4d_masks
from agent.engines.named_weights import match_weights
from agent.engines.sample_groups import SampleGroups
from agent.engines.sampling import check_params, check_prompt
from agent.hugging_face import load_tokenizer
from agent.out_of_memory import OutOfMemory, decoding_settings, is_out_of_memory, names_settings, out_of_memory

Schedule = Literal["deterministic", "eager"]
Precision = Literal["float32", "bfloat16"]

# Eager: requests that arrive while others decode join when they are this share of the running rows, or have waited
# this many steps. A prefill costs about one step for everybody, so single rows should not each buy one.
_JOIN_SHARE = 0.25
_JOIN_STEPS = 4


class TransformersEngine(SampleGroups):
    """Samples a causal language model; implements `agent.engine.Engine`.

    The engine may own its model or share the learner's module: it changes neither device nor precision, and leaves the
    module in the mode (train or eval) in which it found it.

    Args:
        model: a causal language model with a key-value cache.
        tokenizer: for stop strings and the end token.
        schedule: see the module's text.
        max_batch: most rows decoded together.
        dtype: "bfloat16" computes under autocast; weights stay as they are.
        eos_token_ids: tokens that end a completion; by default the model's and the tokenizer's own.
        context_window: most tokens, prompt and completion; by default the model's own.
        version: of the weights now in the model.

    Raises:
        ValueError: an option out of its range, or a model without a plain key-value cache.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        schedule: Schedule = "eager",
        max_batch: int = 256,
        dtype: Precision = "float32",
        eos_token_ids: Sequence[int] | None = None,
        context_window: int | None = None,
        version: int = 0,
    ) -> None:
        for name, value, allowed in (("schedule", schedule, get_args(Schedule)), ("dtype", dtype, get_args(Precision))):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}; at least one row must fit")
        check_cache(model)
        self._model = model
        self._tokenizer = tokenizer
        self._schedule: Schedule = schedule
        self._max_batch = max_batch
        self._dtype: Precision = dtype
        self._eos = eos_tokens(model, tokenizer) if eos_token_ids is None else frozenset(eos_token_ids)
        self._context_window = context_window or model_window(model.config)
        self._vocab_size = model.get_input_embeddings().num_embeddings
        self._version = version
        self._waiting: list[Request] = []
        self._live_episodes = 0
        self._closed = False
        self._batch = self._new_batch()
        self._runner: asyncio.Task[None] | None = None
        self._changed: asyncio.Event | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="waymark-engine")
        # Who wants the model between two steps takes the turnstile first, so a busy worker can't starve them.
        self._turnstile = threading.Lock()
        self._model_lock = threading.Lock()

    @property
    def version(self) -> int:
        """Version of the weights that sample now."""
        return self._version

    @property
    def context_window(self) -> int:
        """Most tokens, prompt and completion together, that the model takes."""
        return self._context_window

    @contextmanager
    def episode(self) -> Iterator[None]:
        """Announce a live episode; the deterministic schedule waits until every live episode has asked."""
        self._live_episodes += 1
        try:
            yield
        finally:
            self._live_episodes -= 1
            self._wake()
            self._batch.nobody_returns = self._live_episodes == 0

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, *, key: str) -> Completion:
        """Sample one completion. `key` orders requests inside a deterministic batch.

        `max_new_tokens` is cut to the room that the prompt leaves in the context window.

        Raises:
            ValueError: a sampling parameter out of range, an empty prompt, one that leaves no room in the context
                window, or an id outside the model's vocabulary.
            EngineError: the engine failed or was closed.
            OutOfMemory: (a ValueError) the rows that decode together need more memory than there is.
        """
        check_params(params)
        room = check_prompt(prompt_ids, vocab_size=self._vocab_size, context_window=self._context_window)
        if self._closed:
            raise EngineError("the engine is closed")
        loop = asyncio.get_running_loop()
        request = Request(
            key=key,
            prompt=np.asarray(prompt_ids, dtype=np.int64),
            params=params,
            max_new=min(params.max_new_tokens, room),
            future=loop.create_future(),
            arrived=self._batch.num_steps,
        )
        self._waiting.append(request)
        if self._runner is None:
            self._changed = asyncio.Event()
            self._runner = loop.create_task(self._run(), name="waymark-engine")
        self._wake()
        completion: Completion = await request.future
        return completion

    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Copy every weight in place, between two decode steps, and set the version.

        Names as in `match_weights`. Sequences in flight go on with the keys and values that they have. A tensor that
        already is the model's own is not copied.

        Raises:
            ValueError: names or shapes that do not fit; the old weights are then untouched.
        """
        pairs = match_weights(self._model, named_tensors)
        with self._between_steps(), torch.no_grad():
            for weight, tensor in pairs:
                if tensor.data_ptr() != weight.data_ptr():
                    weight.copy_(tensor)
            self._version = version

    def score(self, token_ids: Sequence[int], *, temperature: float = 1.0) -> list[float]:
        """Logprob of each token given those before it, by one forward; the first is 0.0: `[num_tokens]`.

        Raises:
            ValueError: no tokens, more than the context window, an unknown id, or a temperature that is not positive.
        """
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature is {temperature}; scoring needs a positive one")
        if len(token_ids) > self._context_window:
            raise ValueError(
                f"{len(token_ids)} tokens to score do not fit the context window of {self._context_window}"
            )
        check_prompt(token_ids, vocab_size=self._vocab_size, context_window=self._context_window + 1)
        device = next(self._model.parameters()).device
        ids = torch.tensor([list(token_ids)], dtype=torch.long, device=device)
        named = names_settings("scoring", decoding_settings(self._max_batch))
        with named, self._between_steps(), self._inference():
            accepted = accepted_arguments(self._model)
            options = {"use_cache": False} if accepted is None or "use_cache" in accepted else {}
            logits = self._model(input_ids=ids, **options).logits[0, :-1].float()
            picked = (logits / temperature).log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        return [0.0, *picked.tolist()]

    async def close(self) -> None:
        """Fail what still waits, and end the worker thread. A second call does nothing."""
        self._closed = True
        self._wake()
        if self._runner is not None:
            await asyncio.gather(self._runner, return_exceptions=True)
        self._worker.shutdown(wait=True)

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    async def _run(self) -> None:
        """Serve the queue until it is empty. One task per burst, so none outlives its caller's loop."""
        loop = asyncio.get_running_loop()
        batch, changed = self._batch, self._changed
        assert changed is not None
        joining: list[Request] = []
        chunks: list[list[Request]] = []
        error: BaseException = EngineError("the engine was closed")
        try:
            while not self._closed:
                self._waiting = [request for request in self._waiting if not request.future.cancelled()]
                batch.drop_cancelled()
                joining = self._next_rows(chunks)
                if joining or batch.size:
                    finished = await loop.run_in_executor(self._worker, self._decode, batch, joining)
                    joining = []
                    for request, completion in finished:
                        if not request.future.done():
                            request.future.set_result(completion)
                elif self._waiting:
                    changed.clear()
                    await changed.wait()
                else:
                    return
        except BaseException as caught:
            error = caught
            if not isinstance(caught, Exception):
                raise
            if is_out_of_memory(caught):
                error = out_of_memory(caught, "sampling", decoding_settings(self._max_batch))
        finally:
            self._runner = self._changed = None
            unserved = [*batch.requests, *joining, *(request for chunk in chunks for request in chunk)]
            if batch.size or unserved or self._waiting:
                self._fail(unserved, error)
                batch.abandoned = True
                self._batch = self._new_batch()

    def _new_batch(self) -> DecodeBatch:
        return DecodeBatch(
            self._model,
            self._tokenizer,
            max_rows=self._max_batch,
            context_window=self._context_window,
            eos_token_ids=self._eos,
            reuse_prefixes=takes_4d_masks(self._model),
            cache_dtype=torch.bfloat16 if self._dtype == "bfloat16" else None,
        )

    def _fail(self, requests: Iterable[Request], error: BaseException) -> None:
        """Resolve these requests, and all that wait, with an EngineError."""
        waiting, self._waiting = self._waiting, []
        for request in {id(r): r for r in (*requests, *waiting)}.values():
            if not request.future.done():
                failure = error
                if not isinstance(error, (EngineError, OutOfMemory)):
                    failure = EngineError(f"the engine failed: {type(error).__name__}: {error}")
                    failure.__cause__ = error
                request.future.set_exception(failure)

    def _next_rows(self, chunks: list[list[Request]]) -> list[Request]:
        """The requests that join now, taken from the queue."""
        if self._schedule == "eager":
            if not self._worth_joining():
                return []
            free = self._max_batch - self._batch.size
            rows, self._waiting = self._waiting[:free], self._waiting[free:]
            return rows
        if self._batch.size:
            return []
        if not chunks and self._waiting and len(self._waiting) >= self._live_episodes:
            ordered = sorted(self._waiting, key=lambda r: (r.key, r.params.seed, r.prompt.tolist()))
            chunks.extend(ordered[i : i + self._max_batch] for i in range(0, len(ordered), self._max_batch))
            self._waiting = []
        return chunks.pop(0) if chunks else []

    def _worth_joining(self) -> bool:
        """True if a prefill now serves enough of the waiting requests (see `_JOIN_SHARE`)."""
        running = self._batch.size
        if not self._waiting or running >= self._max_batch:
            return False
        waited = self._batch.num_steps - self._waiting[0].arrived
        return waited >= _JOIN_STEPS or len(self._waiting) >= _JOIN_SHARE * running

    def _decode(self, batch: DecodeBatch, joining: Sequence[Request]) -> list[tuple[Request, Completion]]:
        """Decode until a row ends or others should join. Runs in the worker thread."""
        finished: list[tuple[Request, Completion]] = []
        with self._inference():
            if joining:
                with self._one_step():
                    batch.admit(joining, self._version)
            while batch.size and not (finished or batch.abandoned or self._closed):
                with self._one_step():
                    finished = batch.step(self._version)
                if self._schedule == "eager" and self._worth_joining():
                    break
        return finished

    @contextmanager
    def _one_step(self) -> Iterator[None]:
        with self._turnstile:
            pass
        with self._model_lock:
            yield

    @contextmanager
    def _between_steps(self) -> Iterator[None]:
        with self._turnstile, self._model_lock:
            yield

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """No gradients, eval mode, and the precision asked for; the module's mode is put back."""
        training = self._model.training
        device = next(self._model.parameters()).device.type
        if training:
            self._model.eval()
        try:
            with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=self._dtype == "bfloat16"):
                yield
        finally:
            if training:
                self._model.train()


def load_engine(
    path_or_id: str | Path,
    *,
    schedule: Schedule = "eager",
    max_batch: int = 256,
    dtype: Precision = "float32",
    device: str | None = None,
    trust_remote_code: bool = False,
    version: int = 0,
) -> TransformersEngine:
    """An engine with its own copy of a model folder or Hugging Face id. `device` is CUDA where there is one.

    Raises:
        ValueError: no such model, or a folder without a tokenizer.
    """
    tokenizer = load_tokenizer(path_or_id, trust_remote_code=trust_remote_code)
    model = load_model(path_or_id, trust_remote_code=trust_remote_code)
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]
    model.eval()
    return TransformersEngine(model, tokenizer, schedule=schedule, max_batch=max_batch, dtype=dtype, version=version)
