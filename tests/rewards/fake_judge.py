"""A judge that says what a test tells it to, and remembers what it was asked."""

from collections.abc import Callable, Sequence

from rewards.judge.judge import JudgeRequest, Verdict


class FakeJudge:
    """`rule` gives the score of a request; `batches` holds the requests of each call."""

    name = "fake"
    failed = cached = 0
    cost = 0.0

    def __init__(self, rule: Callable[[JudgeRequest], float]) -> None:
        self.rule = rule
        self.batches: list[list[JudgeRequest]] = []

    @property
    def asked(self) -> int:
        return sum(map(len, self.batches))

    def ask(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        self.batches.append(list(requests))
        return [Verdict(score=self.rule(request)) for request in requests]
