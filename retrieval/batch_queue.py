"""What a micro-batcher has been asked and has not sent yet, and what goes into one batch.

A batch has one depth. Requests of several depths share it where the first `k` of a deeper search are the search with
`k`: it goes as deep as the deepest of them, and each gets its own part. What that brings beyond the hits that were
asked for is bounded, so a thousand hits for one caller are not searched for all.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from retrieval.passage import Hit

_FREE_HITS = 8192
_MOST_SURPLUS = 3
"""Hits of a batch that nobody asked for, for each one asked for; depths within a factor of 4 always go together."""


@dataclass(slots=True, eq=False)
class Request:
    """One call, or a part of one that is larger than a batch."""

    queries: list[str]
    k: int
    answer: asyncio.Future[list[list[Hit]]]
    attempts: int = 0


@dataclass(slots=True)
class BatchQueue:
    """What has been asked and not sent: the window that is open, closed ones that wait for a free slot, and parts of
    batches that failed, which are sent as they are.
    """

    prefix_depth: int | None = None
    """Of the retriever; None: searches of any depth agree."""
    window: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    again: deque[list[Request]] = field(default_factory=deque)
    window_queries: int = 0
    num_queries: int = 0
    """In the window, in closed ones and in parts of failed batches."""
    _again_is_next: bool = False

    def add(self, request: Request) -> None:
        """Take a request into the window."""
        self.window.append(request)
        self.window_queries += len(request.queries)
        self.num_queries += len(request.queries)

    def add_again(self, part: list[Request]) -> None:
        """Take a part of a batch that failed, to be sent without company."""
        self.again.append(part)
        self.num_queries += sum(len(request.queries) for request in part)

    def close_window(self) -> None:
        """Let what is in the window wait for a free slot, and open a new one."""
        self.waiting.extend(self.window)
        self.window = []
        self.window_queries = 0

    def forget(self, request: Request) -> None:
        """Drop a request whose caller has gone, if it has not been sent."""
        size = len(request.queries)
        if request in self.window:
            self.window.remove(request)
            self.window_queries -= size
            self.num_queries -= size
        elif request in self.waiting:
            self.waiting.remove(request)
            self.num_queries -= size
        elif part := next((part for part in self.again if request in part), None):
            part.remove(request)
            self.num_queries -= size

    def take(self, max_batch: int) -> list[Request]:
        """The next batch. Parts of failed batches and what was asked meanwhile take turns, so neither holds up the
        other; it may be empty, where all callers of a part have gone.
        """
        if self.again and (self._again_is_next or not self.waiting):
            self._again_is_next = False
            batch = self.again.popleft()
        else:
            self._again_is_next = True
            batch = self._oldest(max_batch)
        self.num_queries -= sum(len(request.queries) for request in batch)
        return batch

    def _oldest(self, max_batch: int) -> list[Request]:
        """The oldest request that waits, and others that fit beside it in one batch."""
        first = self.waiting.popleft()
        batch, others = [first], deque[Request]()
        size, depth, asked = len(first.queries), first.k, len(first.queries) * first.k
        for request in self.waiting:
            new_size, new_depth = size + len(request.queries), max(depth, request.k)
            new_asked = asked + len(request.queries) * request.k
            if new_size <= max_batch and (depth == request.k or self._share(new_size, new_depth, new_asked)):
                batch.append(request)
                size, depth, asked = new_size, new_depth, new_asked
            else:
                others.append(request)
        self.waiting = others
        return batch

    def _share(self, size: int, depth: int, asked: int) -> bool:
        if self.prefix_depth is not None and depth > self.prefix_depth:
            return False
        return size * depth - asked <= max(_FREE_HITS, _MOST_SURPLUS * asked)

    def __bool__(self) -> bool:
        """True if something waits for a slot."""
        return bool(self.waiting or self.again)
