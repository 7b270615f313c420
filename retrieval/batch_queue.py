"""What a micro-batcher has been asked and has not sent yet, and what goes into one batch.

Calls share a batch, and large ones are cut, so that none holds up a small one: where `n` calls wait, each call of
at most `max_batch / n` queries is in the next batch, whole; the oldest of the larger ones get the room that is left.

A batch has one depth. Requests of several depths share it where the first `k` of a deeper search are the search with
`k`: it goes as deep as the deepest of them, and each gets its own part. What that brings beyond the hits that were
asked for is bounded, so a thousand hits for one caller are not searched for all. Who cannot share the batch of the
oldest call goes next: every other batch is made around the oldest call that has been in none.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from retrieval.passage import Hit

_FREE_HITS = 8192
_MOST_SURPLUS = 3
"""Hits of a batch that nobody asked for, for each one asked for; depths within a factor of 4 always go together."""


class Call:
    """One call of a search: some queries, one depth, and the future that takes the hits of all of them."""

    __slots__ = ("_found", "_num_open", "answer", "k", "num_sent", "queries")

    def __init__(self, queries: list[str], k: int, answer: asyncio.Future[list[list[Hit]]]) -> None:
        self.queries = queries
        self.k = k
        self.answer = answer
        self.num_sent = 0
        """Queries that have gone into a batch: the first ones."""
        self._num_open = len(queries)
        self._found: list[list[Hit]] = []

    @property
    def num_left(self) -> int:
        """Queries that have been in no batch yet."""
        return len(self.queries) - self.num_sent

    def cut(self, size: int) -> "Part":
        """The next `size` queries, as a part of a batch."""
        start = self.num_sent
        self.num_sent += size
        return Part(self, start, self.num_sent)

    def found(self, start: int, hits: list[list[Hit]]) -> None:
        """Take the hits of the queries from `start` on; those of the last ones answer the call."""
        if self.answer.done():
            return
        if len(hits) == len(self.queries):
            self.answer.set_result(hits)
            return
        self._found = self._found or [[] for _ in self.queries]
        self._found[start : start + len(hits)] = hits
        self._num_open -= len(hits)
        if not self._num_open:
            self.answer.set_result(self._found)

    def fail(self, error: Exception) -> None:
        """Answer the call with an error, if it has no answer yet."""
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True, eq=False)
class Part:
    """The queries of a call from `start` to `end`: what it has in one batch."""

    call: Call
    start: int
    end: int
    attempts: int = 0

    @property
    def size(self) -> int:
        """Number of queries."""
        return self.end - self.start

    @property
    def queries(self) -> list[str]:
        """The queries."""
        return self.call.queries[self.start : self.end]


@dataclass(slots=True)
class BatchQueue:
    """What has been asked and not sent: the window that is open, closed ones that wait for a free slot, and parts of
    batches that failed, which are sent as they are.
    """

    prefix_depth: int | None = None
    """Of the retriever; None: searches of any depth agree."""
    window: list[Call] = field(default_factory=list)
    waiting: list[Call] = field(default_factory=list)
    """By age."""
    again: deque[list[Part]] = field(default_factory=deque)
    window_queries: int = 0
    num_queries: int = 0
    """In the window, in closed ones and in parts of failed batches."""
    _again_is_next: bool = False
    _new_is_next: bool = False

    def add(self, call: Call) -> None:
        """Take a call into the window."""
        self.window.append(call)
        self.window_queries += call.num_left
        self.num_queries += call.num_left

    def add_again(self, parts: list[Part]) -> None:
        """Take a part of a batch that failed, to be sent without company."""
        self.again.append(parts)
        self.num_queries += sum(part.size for part in parts)

    def close_window(self) -> None:
        """Let what is in the window wait for a free slot, and open a new one."""
        self.waiting += self.window
        self.window = []
        self.window_queries = 0

    def forget(self, call: Call) -> None:
        """Drop what has not been sent of a call that needs no answer any more."""
        if left := call.num_left:
            self.num_queries -= left
            if call in self.window:
                self.window.remove(call)
                self.window_queries -= left
            elif call in self.waiting:
                self.waiting.remove(call)
            call.num_sent += left
        for parts in self.again:
            for part in [part for part in parts if part.call is call]:
                parts.remove(part)
                self.num_queries -= part.size

    def take(self, max_batch: int) -> list[Part]:
        """The next batch. Parts of failed batches and what was asked meanwhile take turns, so neither holds up the
        other; it may be empty, where all callers of a part have gone.
        """
        if self.again and (self._again_is_next or not self.waiting):
            self._again_is_next = False
            batch = self.again.popleft()
        else:
            self._again_is_next = True
            batch = self._shared_batch(max_batch)
        self.num_queries -= sum(part.size for part in batch)
        return batch

    def _shared_batch(self, max_batch: int) -> list[Part]:
        """One call, and others that fit beside it in one batch; each at most once."""
        if len({call.k for call in self.waiting}) == 1 and sum(call.num_left for call in self.waiting) <= max_batch:
            whole, self.waiting = self.waiting, []
            return [call.cut(call.num_left) for call in whole]
        sizes: dict[Call, int] = {}
        size, depth, asked = 0, 0, 0
        for call, most in self._in_turn(max(1, max_batch // len(self.waiting))):
            more = min(most - sizes.get(call, 0), max_batch - size)
            if more <= 0:
                continue
            new_depth, new_asked = max(depth, call.k), asked + more * call.k
            if size == 0 or depth == call.k or self._share(size + more, new_depth, new_asked):
                sizes[call] = sizes.get(call, 0) + more
                size, depth, asked = size + more, new_depth, new_asked
        batch = [call.cut(size) for call, size in sizes.items()]
        self.waiting = [call for call in self.waiting if call.num_left]
        return batch

    def _in_turn(self, share: int) -> Iterator[tuple[Call, int]]:
        """Calls, and how many of their queries may be in the batch by then: first a share of the one around which the
        batch is made, then all that need no more than a share, then whatever there is room for.
        """
        first = self.waiting[0]
        if self._new_is_next:
            first = next((call for call in self.waiting if not call.num_sent), first)
        self._new_is_next = not self._new_is_next
        yield first, min(share, first.num_left)
        for call in self.waiting:
            if call.num_left <= share:
                yield call, call.num_left
        for call in self.waiting:
            if call.num_left > share:
                yield call, call.num_left

    def _share(self, size: int, depth: int, asked: int) -> bool:
        if self.prefix_depth is not None and depth > self.prefix_depth:
            return False
        return size * depth - asked <= max(_FREE_HITS, _MOST_SURPLUS * asked)

    def __bool__(self) -> bool:
        """True if something waits for a slot."""
        return bool(self.waiting or self.again)
