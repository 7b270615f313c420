"""A chat server and judges that ask it, closed after each test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rewards.judge.endpoint import EndpointJudge
from rewards.judge.opening import open_judge
from tests.rewards.judge.chat_server import ChatServer


@pytest.fixture
def server() -> Iterator[ChatServer]:
    made = ChatServer()
    yield made
    made.close()


@pytest.fixture
def judge_with(server: ChatServer) -> Iterator[Callable[..., EndpointJudge]]:
    opened: list[EndpointJudge] = []

    def make(**settings: Any) -> EndpointJudge:
        judge = open_judge(server.spec(**settings))
        assert isinstance(judge, EndpointJudge)
        opened.append(judge)
        return judge

    yield make
    for judge in opened:
        judge.close()
