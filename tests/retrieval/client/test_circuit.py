import pytest

from retrieval.client.circuit import CircuitBreaker, CircuitOpen
from retrieval.retriever import RetrievalError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def failing(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.failed(breaker.enter(), RetrievalError("down"))


def test_it_opens_after_failures_in_a_row_and_says_why() -> None:
    breaker = CircuitBreaker("http://x", failures=3, pause_s=10, clock=Clock())
    failing(breaker, 2)
    breaker.succeeded(breaker.enter())
    failing(breaker, 3)
    with pytest.raises(CircuitOpen, match=r"http://x failed 3 times in a row.* in 10\.0 s.* error was: down"):
        breaker.enter()


def test_after_the_pause_one_call_tries_and_decides() -> None:
    clock = Clock()
    breaker = CircuitBreaker("x", failures=1, pause_s=10, clock=clock)
    failing(breaker, 1)
    clock.now = 10.0
    trial = breaker.enter()
    with pytest.raises(CircuitOpen, match="one call is trying it now"):
        breaker.enter()
    breaker.failed(trial, RetrievalError("still down"))
    with pytest.raises(CircuitOpen, match="still down"):
        breaker.enter()
    clock.now = 20.0
    breaker.succeeded(breaker.enter())
    breaker.enter()
    breaker.enter()


def test_a_trial_that_is_given_up_leaves_the_next_one_free() -> None:
    clock = Clock()
    breaker = CircuitBreaker("x", failures=1, pause_s=1, clock=clock)
    failing(breaker, 1)
    clock.now = 1.0
    breaker.abandoned(breaker.enter())
    breaker.enter()


def test_a_call_of_before_the_trial_decides_nothing() -> None:
    clock = Clock()
    breaker = CircuitBreaker("x", failures=2, pause_s=1, clock=clock)
    old = breaker.enter()
    failing(breaker, 2)
    breaker.succeeded(old)
    with pytest.raises(CircuitOpen):  # it was asked before the failures
        breaker.enter()
    clock.now = 1.0
    trial = breaker.enter()
    for late in (breaker.abandoned, breaker.succeeded, lambda call: breaker.failed(call, RetrievalError("late"))):
        late(old)
        with pytest.raises(CircuitOpen, match="one call is trying it now"):
            breaker.enter()
    breaker.succeeded(trial)
    breaker.failed(trial, RetrievalError("late"))
    breaker.failed(old, RetrievalError("late"))
    failing(breaker, 1)
    breaker.enter()  # one failure since it closed


def test_zero_failures_never_opens() -> None:
    breaker = CircuitBreaker("x", failures=0)
    failing(breaker, 50)
    breaker.enter()
