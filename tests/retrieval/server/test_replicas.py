"""Several processes behind one port: nothing is lost when one is killed, and nothing is left when they end."""

import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from retrieval.client import HttpRetriever
from retrieval.passage import Hit
from retrieval.retriever import RetrievalError
from retrieval.server.fair_share import FairShare, create_counts
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.served import all_ended, fakes, is_running, served

FAKE = FakeRetriever()


def test_the_replica_with_the_fewest_connections_is_next(tmp_path: Path) -> None:
    create_counts(tmp_path / "counts", 3)
    shares = [FairShare(tmp_path / "counts", place) for place in range(3)]
    assert shares[0].is_next(100), "nobody else is there"
    shares[0].publish(2)
    shares[1].publish(5)
    assert shares[0].is_next(2) and not shares[1].is_next(5) and shares[1].is_next(2)
    shares[0].leave()
    assert shares[1].is_next(5)


@pytest.mark.slow
def test_what_a_replica_serves_may_be_cut_within_a_character() -> None:
    """A foreign server names its backend as it likes; the words end after 512 bytes."""
    command = fakes(2)[1].replace("open_fake", "open_fake_with_a_long_name")
    with served("-c", command) as server:
        assert "20 passages (検索検索" in server.line
        assert server.end() == 0


@pytest.mark.slow
def test_replicas_share_connections_and_metrics_and_end_with_the_first_signal() -> None:
    with served(*fakes(3)) as server:
        clients = [httpx.Client(base_url=server.url, trust_env=False, timeout=20) for _ in range(12)]
        for client in clients:
            assert client.post("/retrieve", json={"queries": ["a", "b"], "topk": 1}).status_code == 200
        answering = [client.get("/health").json()["pid"] for client in clients]
        assert len(set(answering)) == 3 and max(map(answering.count, answering)) <= 6
        for client in clients[:4]:
            page = client.get("/metrics").text.splitlines()
            assert 'waymark_requests_total{path="/retrieve",status="200"} 12.0' in page
            assert "waymark_queries_total 24.0" in page and "waymark_passages 20.0" in page
        for client in clients:
            client.close()
        assert server.end(signal.SIGTERM) == 0
        assert all_ended(set(answering))


@pytest.mark.slow
def test_a_replica_killed_during_a_request_is_replaced_and_its_clients_retry() -> None:
    with served(*fakes(2)) as server:
        before = server.process_ids()
        found: dict[int, list[list[Hit]]] = {}

        def ask(i: int) -> None:
            with HttpRetriever(server.url, retries=6, backoff_s=0.2) as remote:
                found[i] = remote.search(["sleep:1.5"], 3)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert found == {i: [FAKE.expected("sleep:1.5", 3)] for i in range(8)}
        until = time.monotonic() + 20
        while len(now := server.process_ids() - {victim}) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        assert len(now) == 2 and not is_running(victim)
        assert server.end() == 0
        assert all_ended(before | now)


@pytest.mark.slow
def test_without_retries_a_kill_is_a_typed_error_not_a_hang() -> None:
    with served(*fakes(1)) as server, HttpRetriever(server.url, retries=0) as remote:
        killer = threading.Timer(0.4, server.process.kill)
        killer.start()
        started = time.perf_counter()
        with pytest.raises(RetrievalError):
            remote.search(["sleep:5"], 1)
        assert time.perf_counter() - started < 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 1)])
@pytest.mark.parametrize("replicas", [1, 2])
def test_what_was_taken_is_finished_whatever_the_signal(replicas: int, number: int, code: int) -> None:
    with served(*fakes(replicas)) as server:
        processes = server.process_ids() | {server.process.pid}
        answers: list[httpx.Response] = []

        def ask() -> None:
            body = {"queries": ["sleep:1"], "topk": 2}
            answers.append(httpx.post(server.url + "/retrieve", json=body, timeout=20, trust_env=False))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        ended = server.end(number)
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 6
        assert ended in (code, -number) if number == signal.SIGINT else ended == code
        assert all_ended(processes)


@pytest.mark.slow
def test_a_parent_that_is_killed_leaves_no_orphans() -> None:
    with served(*fakes(2)) as server:
        replicas = server.process_ids()
        server.process.kill()
        assert all_ended(replicas)


@pytest.mark.slow
def test_a_replica_that_hangs_is_killed_when_its_time_is_over() -> None:
    with served(*fakes(2, shutdown_timeout_s=1)) as server:
        replicas = server.process_ids()
        for replica in replicas:
            os.kill(replica, signal.SIGSTOP)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0 and time.monotonic() - started < 15
        assert all_ended(replicas)


SHORT_OF_PROCESSES = """
import retrieval.server.replicas
popen, count = retrieval.server.replicas.subprocess.Popen, 0

def short(*arguments, **options):
    global count
    count += 1
    if count in FAILS:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return popen(*arguments, **options)

retrieval.server.replicas.subprocess.Popen = short
"""


@pytest.mark.slow
def test_a_replica_that_cannot_be_started_again_at_once_is_started_later() -> None:
    command = SHORT_OF_PROCESSES.replace("FAILS", "(3, 4)") + fakes(2)[1]
    with served("-c", command) as server:
        before = server.process_ids()
        os.kill(min(before), signal.SIGKILL)
        until = time.monotonic() + 60
        while len(now := server.process_ids() - {min(before)}) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        assert len(now) == 2 and max(before) in now, "the other one went on"
        assert server.end() == 0 and server.process.stderr is not None
        said = server.process.stderr.read()
        assert said.count("a replica could not be started (Resource temporarily unavailable); trying again in") == 2
        assert all_ended(now)


@pytest.mark.slow
def test_a_replica_that_cannot_be_started_at_all_ends_everything_and_says_why() -> None:
    command = SHORT_OF_PROCESSES.replace("FAILS", "(2,)") + fakes(2)[1]
    with pytest.raises(AssertionError) as failed, served("-c", command):
        pass
    assert "ReplicaStartError: a replica could not be started (Resource temporarily unavailable); free" in str(
        failed.value
    )


@pytest.mark.slow
def test_replicas_that_cannot_start_end_everything_and_say_why() -> None:
    command = fakes(2)[1].replace("serve([20]", "serve(['no number']")
    with pytest.raises(AssertionError) as failed, served("-c", command):
        pass
    assert "invalid literal for int" in str(failed.value)
    assert "a replica ended with code 2 before it was ready" in str(failed.value)
