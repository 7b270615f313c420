"""What a micro-batcher has been asked and has not sent yet."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from retrieval.passage import Hit


@dataclass(slots=True, eq=False)
class Request:
    """One call, or a part of one that is larger than a batch."""

    queries: list[str]
    k: int
    answer: asyncio.Future[list[list[Hit]]]
    attempts: int = 0
    alone: bool = False


@dataclass(slots=True)
class BatchQueue:
    """What has been asked and not sent: the window that is open, and closed ones that wait for a free slot."""

    window: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    window_queries: int = 0
    num_queries: int = 0
    """In the window and in closed ones."""

    def add(self, request: Request) -> None:
        """Take a request into the window."""
        self.window.append(request)
        self.window_queries += len(request.queries)
        self.num_queries += len(request.queries)

    def add_again(self, request: Request) -> None:
        """Take a request that failed in a batch, to be sent alone."""
        request.alone = True
        self.waiting.append(request)
        self.num_queries += len(request.queries)

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

    def take(self, max_batch: int) -> list[Request]:
        """The oldest request that waits, and others of its `k` that fit beside it in one batch."""
        first = self.waiting.popleft()
        batch, size = [first], len(first.queries)
        if not first.alone:
            others: deque[Request] = deque()
            for request in self.waiting:
                if request.k == first.k and not request.alone and size + len(request.queries) <= max_batch:
                    batch.append(request)
                    size += len(request.queries)
                else:
                    others.append(request)
            self.waiting = others
        self.num_queries -= size
        return batch
