"""The rows that decode together: prompts in, one token a step for every row, completions out.

A row joins by a prefill of its prompt without the last token; that token is then the row's first decode input, so
joining rows and decoding rows go through one kind of step. All bookkeeping is in arrays over the live rows `[0, size)`.
A row that leaves changes places with the last live one and is parked behind it, `[size, size + parked)`, so that the
episode's next turn can go on from its keys and values.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from agent.engine import Completion, SamplingParams
from agent.engines.parked_rows import ParkedRow, episode_of, find_parked
from agent.engines.sampling import draw, processed_logprobs, uniforms
from agent.engines.slot_cache import SlotCache
from agent.engines.stopping import StopStrings

# Padded prompt tokens in one prefill forward: bounds its memory, and sorts long prompts from short ones.
_PREFILL_TOKENS = 8192


@dataclass(slots=True, eq=False)
class Request:
    """One completion to sample. `max_new` is `max_new_tokens` cut to the room left; `arrived` a step count."""

    key: str
    prompt: NDArray[np.int64]
    params: SamplingParams
    max_new: int
    future: Any
    arrived: int = 0
    uniforms: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.uniforms = uniforms(self.params.seed, self.max_new)


class DecodeBatch:
    """At most `max_rows` requests on one model. Not thread-safe: one caller at a time.

    `reuse_prefixes` parks rows for the next turn of their episode; the model must take four-dimensional masks.
    `cache_dtype` is that of the keys and values, None the model's own. `abandoned` tells a worker to stop.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_rows: int,
        context_window: int,
        eos_token_ids: frozenset[int],
        reuse_prefixes: bool = False,
        cache_dtype: torch.dtype | None = None,
    ) -> None:
        self.abandoned = False
        self.nobody_returns = False  # set when the last live episode ends: parked rows are of no more use
        self.num_steps = 0
        self.prefilled_tokens = 0  # padding aside
        self._max_rows = max_rows
        self._window = context_window
        self._reuse = reuse_prefixes
        self._parked: list[ParkedRow] = []
        self._model = model
        self._tokenizer = tokenizer
        self._device = next(model.parameters()).device
        self._eos = eos_token_ids
        self._cache = SlotCache(max_rows, cache_dtype)
        self._accepted = accepted_arguments(model)
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self._ends: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.requests: list[Request] = []
        self._next = np.zeros(max_rows, dtype=np.int64)  # the token to feed
        self._position = np.zeros(max_rows, dtype=np.int64)  # its position, and the cache column it fills
        self._count = np.zeros(max_rows, dtype=np.int64)  # tokens sampled so far
        self._max_new = np.zeros(max_rows, dtype=np.int64)
        self._born = np.zeros(max_rows, dtype=np.int64)  # version of the weights at the row's prefill
        self._uniforms = np.zeros((max_rows, 0), dtype=np.float64)
        self._ids = np.zeros((max_rows, 0), dtype=np.int64)
        self._logprobs = np.zeros((max_rows, 0), dtype=np.float32)
        self._versions = np.zeros((max_rows, 0), dtype=np.int64)
        self._settings: _RowSettings | None = None

    @property
    def size(self) -> int:
        """Number of live rows."""
        return len(self.requests)

    def admit(self, requests: Sequence[Request], version: int) -> None:
        """Prefill requests and let them join; those whose episode has a parked row go on from there."""
        self._reserve(max(r.max_new for r in requests))
        if self.nobody_returns:
            self._parked, self.nobody_returns = [], False
        found = find_parked(self._parked, [(r.key, r.prompt) for r in requests], version)
        resumed = sorted(found, key=lambda i: found[i])
        used = set(found.values())
        unused = [i for i in range(len(self._parked)) if i not in used]
        kept = unused[: self._max_rows - self.size - len(requests)]
        fresh = sorted((r for i, r in enumerate(requests) if i not in found), key=lambda r: -len(r.prompt))
        first = self.size
        behind = first + len(requests)
        self._cache.rearrange(
            sources=[*(first + found[i] for i in resumed), *(first + i for i in kept)],
            targets=[*range(first, first + len(resumed)), *range(behind, behind + len(kept))],
        )
        pasts = {id(requests[i]): len(self._parked[found[i]].tokens) for i in resumed}
        self._parked = [self._parked[i] for i in kept]
        for chunk in _chunks([requests[i] for i in resumed], lambda r: len(r.prompt) - pasts[id(r)]):
            self._extend(chunk, np.array([pasts[id(r)] for r in chunk]))
            self._begin(chunk, version)
        for chunk in _chunks(fresh, lambda r: len(r.prompt)):
            self._prefill(chunk)
            self._begin(chunk, version)
        self._settings = None

    def step(self, version: int) -> list[tuple[Request, Completion]]:
        """Sample one token in every row; the rows that ended leave and come back with their completions."""
        n = self.size
        positions = self._position[:n]
        columns = int(positions.max()) + 1
        on_device = torch.from_numpy(positions).to(self._device)
        self._cache.begin_extend(0, on_device[:, None], columns)
        mask = torch.arange(columns, device=self._device) <= on_device[:, None]
        inputs = torch.from_numpy(self._next[:n, None]).to(self._device)
        logits = self._forward(inputs, mask.long(), on_device[:, None])[:, -1]
        if self._settings is None:
            self._settings = _RowSettings.of(self.requests, self._device)
        tokens, logprobs = self._sample(logits, self._settings)

        if not np.isfinite(logprobs).all():
            broken = self.requests[int(np.argmin(np.isfinite(logprobs)))].key
            raise FloatingPointError(f"the logits of request {broken!r} are not finite: the weights have diverged")
        rows, count = np.arange(n), self._count[:n]
        self._ids[rows, count] = tokens
        self._logprobs[rows, count] = logprobs
        self._versions[rows, count] = version
        self._next[:n] = tokens
        self._position[:n] += 1
        self._count[:n] += 1
        self.num_steps += 1
        return self._leave(self._finished(tokens, logits.shape[-1]))

    def _prefill(self, chunk: Sequence[Request]) -> None:
        """Compute the prompts of new rows, up to the last token."""
        width = max(len(r.prompt) for r in chunk) - 1
        if width == 0:
            return
        # Padding stands on the right, where causal attention never looks: no mask is needed.
        padded = _padded([r.prompt[:-1] for r in chunk], width)
        self.prefilled_tokens += sum(len(r.prompt) - 1 for r in chunk)
        self._cache.begin_prefill(self.size, len(chunk), width)
        positions = torch.arange(width, device=self._device).expand(len(chunk), width)
        self._forward(torch.from_numpy(padded).to(self._device), None, positions)

    def _extend(self, chunk: Sequence[Request], past: NDArray[np.int64]) -> None:
        """Compute what is new in the prompts of rows whose first `past[i]` tokens are in the cache."""
        new = [r.prompt[p:-1] for r, p in zip(chunk, past, strict=True)]
        width = max(map(len, new))
        if width == 0:
            return
        padded = _padded(new, width)
        self.prefilled_tokens += sum(map(len, new))
        places = torch.from_numpy(past[:, None] + np.arange(width)).to(self._device)
        columns = int(past.max()) + width
        self._cache.begin_extend(self.size, places, columns)
        mask = torch.arange(columns, device=self._device) <= places[:, :, None]
        # Only padding can lie beyond the window; a model that looks positions up must not see it there.
        positions = places.clamp(max=self._window - 1)
        self._forward(torch.from_numpy(padded).to(self._device), mask[:, None], positions)

    def _begin(self, chunk: Sequence[Request], version: int) -> None:
        """Enter rows whose prompts are in the cache, up to the last token."""
        rows = slice(self.size, self.size + len(chunk))
        self._next[rows] = [r.prompt[-1] for r in chunk]
        self._position[rows] = [len(r.prompt) - 1 for r in chunk]
        self._count[rows] = 0
        self._max_new[rows] = [r.max_new for r in chunk]
        self._born[rows] = version
        for row, request in enumerate(chunk, start=self.size):
            self._uniforms[row, : request.max_new] = request.uniforms
        self.requests.extend(chunk)

    def _forward(self, input_ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """Logits, `[num_rows, 1 or more, vocab]`; the cache has been told what this forward writes."""
        arguments: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": mask,
            "position_ids": positions,
            "past_key_values": self._cache,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        accepted = self._accepted
        logits: Tensor = self._model(**{k: v for k, v in arguments.items() if accepted is None or k in accepted}).logits
        return logits

    def _sample(self, logits: Tensor, settings: "_RowSettings") -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        n = self.size
        processed = processed_logprobs(logits, settings.temperature, settings.top_k, settings.top_p)
        numbers = torch.from_numpy(self._uniforms[np.arange(n), self._count[:n]])
        tokens = draw(processed, numbers.to(self._device)) if settings.any_sampled else processed.argmax(-1)
        if settings.greedy is not None and settings.any_sampled:
            tokens = torch.where(settings.greedy, processed.argmax(-1), tokens)
        logprobs = processed.gather(1, tokens[:, None])[:, 0]
        return tokens.cpu().numpy(), logprobs.cpu().numpy()

    def _finished(self, tokens: NDArray[np.int64], vocab_size: int) -> list[tuple[int, str]]:
        """Rows that end with these tokens, and why: a stop string before an end token before the length."""
        if len(self._ends) != vocab_size:
            self._ends = np.zeros(vocab_size, dtype=np.bool_)
            self._ends[[i for i in self._eos if i < vocab_size]] = True
        n = self.size
        reasons: dict[int, str] = {int(row): "length" for row in np.flatnonzero(self._count[:n] >= self._max_new[:n])}
        reasons.update((int(row), "eos") for row in np.flatnonzero(self._ends[tokens]))
        assert self._settings is not None
        for stop, rows in self._settings.rows_by_stop.items():
            if stop not in self._stops:
                self._stops[stop] = StopStrings(self._tokenizer, stop, vocab_size)
            strings = self._stops[stop]
            for row in rows[strings.may_end[tokens[rows]]]:
                if strings.ended(self._ids[row, : self._count[row]].tolist()):
                    reasons[int(row)] = "stop"
        return sorted(reasons.items())

    def _leave(self, finished: list[tuple[int, str]]) -> list[tuple[Request, Completion]]:
        if not finished:
            return []
        done = []
        for row, reason in finished:
            count = self._count[row]
            completion = Completion(
                token_ids=tuple(self._ids[row, :count].tolist()),
                logprobs=tuple(self._logprobs[row, :count].tolist()),
                versions=tuple(self._versions[row, :count].tolist()),
                finish=reason,  # type: ignore[arg-type]
            )
            done.append((self.requests[row], completion))
        self._remove([row for row, _ in finished])
        return done

    def drop_cancelled(self) -> None:
        """Remove the rows that nobody waits for any more."""
        self._remove([row for row, request in enumerate(self.requests) if request.future.cancelled()])

    def _remove(self, rows: list[int]) -> None:
        """Move these rows behind the live ones, and park them."""
        if not rows:
            return
        gone, left = set(rows), self.size - len(rows)
        holes = [row for row in rows if row < left]
        movers = [row for row in range(left, self.size) if row not in gone]
        if self._reuse:
            self._cache.rearrange([*movers, *holes], [*holes, *movers])
            order = dict(zip(movers, holes, strict=True))
            self._parked[:0] = [self._park(order.get(row, row)) for row in range(left, self.size)]
        else:
            self._cache.rearrange(movers, holes)
        for array in (
            self._next, self._position, self._count, self._max_new, self._born,
            self._uniforms, self._ids, self._logprobs, self._versions,
        ):  # fmt: skip
            array[holes] = array[movers]
        for mover, hole in zip(movers, holes, strict=True):
            self.requests[hole] = self.requests[mover]
        del self.requests[left:]
        self._settings = None

    def _park(self, row: int) -> ParkedRow:
        request, known = self.requests[row], int(self._position[row])
        tokens = np.concatenate([request.prompt, self._ids[row, : self._count[row]]])[:known]
        return ParkedRow(episode=episode_of(request.key), tokens=tokens, version=int(self._born[row]))

    def _reserve(self, max_new: int) -> None:
        missing = max_new - self._ids.shape[1]
        if missing > 0:
            self._uniforms = np.pad(self._uniforms, ((0, 0), (0, missing)))
            self._ids = np.pad(self._ids, ((0, 0), (0, missing)))
            self._logprobs = np.pad(self._logprobs, ((0, 0), (0, missing)))
            self._versions = np.pad(self._versions, ((0, 0), (0, missing)))


def _chunks(requests: Sequence[Request], width: Callable[[Request], int]) -> Iterator[list[Request]]:
    """Requests in order, cut so that one forward over each part stays within `_PREFILL_TOKENS`, padding included."""
    chunk: list[Request] = []
    widest = 0
    for request in requests:
        wider = max(widest, width(request))
        if chunk and wider * (len(chunk) + 1) > _PREFILL_TOKENS:
            yield chunk
            chunk, wider = [], width(request)
        chunk.append(request)
        widest = wider
    if chunk:
        yield chunk


def _padded(rows: Sequence[NDArray[np.int64]], width: int) -> NDArray[np.int64]:
    """Rows filled up with 0 on the right: `[num_rows, width]`."""
    padded = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowSettings:
    """Sampling settings of the live rows, made anew when rows join or leave. None where no row needs them."""

    temperature: Tensor | None
    greedy: Tensor | None
    any_sampled: bool
    top_k: Tensor | None
    top_p: Tensor | None
    rows_by_stop: dict[tuple[str, ...], NDArray[np.int64]]

    @staticmethod
    def of(requests: Sequence[Request], device: torch.device) -> "_RowSettings":
        params = [r.params for r in requests]
        greedy = [p.temperature == 0 for p in params]
        temperature = [p.temperature or 1.0 for p in params]
        by_stop: dict[tuple[str, ...], list[int]] = {}
        for row, p in enumerate(params):
            if p.stop:
                by_stop.setdefault(p.stop, []).append(row)
        return _RowSettings(
            temperature=torch.tensor(temperature, device=device) if any(t != 1 for t in temperature) else None,
            greedy=torch.tensor(greedy, device=device) if any(greedy) else None,
            any_sampled=not all(greedy),
            top_k=torch.tensor([p.top_k for p in params], device=device) if any(p.top_k for p in params) else None,
            top_p=torch.tensor([p.top_p for p in params], device=device) if any(p.top_p < 1 for p in params) else None,
            rows_by_stop={stop: np.array(rows) for stop, rows in by_stop.items()},
        )


def accepted_arguments(model: torch.nn.Module) -> frozenset[str] | None:
    """Names that the model's forward takes; None where it takes any (a wrapper such as PEFT's passes them on)."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return frozenset(p.name for p in parameters)
