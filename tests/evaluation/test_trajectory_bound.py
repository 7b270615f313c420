"""Trajectories on bounded disk: the oldest go, the newest stay, and what is left reads as if nothing had gone."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.trajectory import Trajectory
from evaluation.trajectory_segment import IndexEntry, Segment, segments
from evaluation.trajectory_store import DATA_FILE, INDEX_FILE, TrajectoryStore, TrajectoryWriter, read_trajectories
from tests.conftest import REPOSITORY
from tests.evaluation.episodes import good_trajectory

BOUND = 40_000


def large(name: str, tokens: int = 200) -> Trajectory:
    """A trajectory that does not compress: about 3 bytes a token."""
    rng = random.Random(name)
    return replace(good_trajectory(name), prompt_ids=tuple(rng.randrange(150_000) for _ in range(tokens)))


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def ids(folder: Path) -> list[str]:
    store = read_trajectories(folder)
    found = [stored.trajectory.id for stored in store]
    assert (store.num_corrupt, store.num_deleted, found) == (0, 0, [entry.id for entry in store.entries])
    return found


def test_the_oldest_steps_go_and_the_run_says_so_once(tmp_path: Path) -> None:
    told: list[str] = []
    with TrajectoryWriter(tmp_path, max_bytes=BOUND, tell=told.append) as writer:
        for step in range(200):
            before = used(tmp_path)
            writer.append(step, [large(f"s{step}-a"), large(f"s{step}-b")], [{"reward": step}, {"reward": 0.0}])
            assert used(tmp_path) <= BOUND, "also the moment after the write"
            assert bool(told) or used(tmp_path) > before
    left = ids(tmp_path)
    first = int(left[0].removeprefix("s").removesuffix("-a"))
    assert left == [f"s{step}-{name}" for step in range(first, 200) for name in "ab"]
    assert used(tmp_path) > 0.8 * BOUND, "no more is deleted than must be"
    assert len(told) == 1 and "trajectories_gb" in told[0] and "the oldest are deleted from now on" in told[0]
    store = TrajectoryStore(tmp_path)
    assert store.read("s195-a") == store.read(left.index("s195-a"))
    assert store.entries[-2].scalars == {"reward": 199}
    with pytest.raises(KeyError, match="no trajectory 's0-a'"):
        store.read("s0-a")


def test_without_a_bound_there_is_one_pair_of_files(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path) as writer:
        for step in range(50):
            writer.append(step, [large(f"s{step}")])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([DATA_FILE, INDEX_FILE])


def test_the_newest_step_stays_however_large_it_is(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path, max_bytes=BOUND) as writer:
        for step in range(3):
            writer.append(step, [large(f"s{step}-{i}") for i in range(5)])
        writer.append(3, [large(f"big-{i}", 10_000) for i in range(3)])
        assert ids(tmp_path) == ["big-0", "big-1", "big-2"]
        writer.append(3, [large("more")])
        assert ids(tmp_path) == ["big-0", "big-1", "big-2", "more"], "a step may come in parts"
        writer.append(4, [large("next")])
    assert ids(tmp_path) == ["next"]


def test_a_store_from_before_the_bound_is_brought_below_it(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path) as writer:
        for step in range(100):
            writer.append(step, [large(f"s{step}")])
    with TrajectoryWriter(tmp_path, max_bytes=BOUND) as writer:
        assert len(ids(tmp_path)) == 100, "nothing is deleted before something new is there"
        writer.append(100, [large("s100")])
    assert used(tmp_path) <= BOUND and ids(tmp_path) == ["s100"]


def test_a_resumed_run_says_it_no_second_time(tmp_path: Path) -> None:
    told: list[str] = []
    for start in (0, 50, 100):
        with TrajectoryWriter(tmp_path, max_bytes=BOUND, tell=told.append) as writer:
            writer.keep_until(start - 1)
            for step in range(start, start + 60):
                writer.append(step, [large(f"s{step}")])
    assert len(told) == 1
    left = ids(tmp_path)
    assert left == [f"s{step}" for step in range(160 - len(left), 160)]


@pytest.mark.parametrize("last_step", [-1, 10, 170, 190, 199, 500])
def test_a_resumed_run_drops_the_steps_that_it_will_repeat(tmp_path: Path, last_step: int) -> None:
    """Wherever its checkpoint lies: also before everything that is left."""
    with TrajectoryWriter(tmp_path, max_bytes=BOUND) as writer:
        for step in range(200):
            writer.append(step, [large(f"s{step}")])
    before = ids(tmp_path)
    with TrajectoryWriter(tmp_path, max_bytes=BOUND) as writer:
        writer.keep_until(last_step)
        kept = [name for name in before if int(name[1:]) <= last_step]
        assert ids(tmp_path) == kept
        writer.append(last_step + 1, [large("again")])
    assert ids(tmp_path)[-1] == "again" and ids(tmp_path)[-3:-1] == kept[-2:]


def test_a_reader_that_was_open_before_says_what_is_gone(tmp_path: Path) -> None:
    writer = TrajectoryWriter(tmp_path, max_bytes=BOUND)
    for step in range(20):
        writer.append(step, [large(f"s{step}")])
    store = read_trajectories(tmp_path)
    for step in range(20, 60):
        writer.append(step, [large(f"s{step}")])
    writer.close()
    with pytest.raises(KeyError, match="'s0' of step 0 has been deleted since"):
        store.read("s0")
    found = [stored.trajectory.id for stored in store]
    assert store.num_deleted > 0 and found == [f"s{step}" for step in range(store.num_deleted, 20)]


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_bound_of_nothing_is_refused(tmp_path: Path, max_bytes: int) -> None:
    with pytest.raises(ValueError, match="None for no bound"):
        TrajectoryWriter(tmp_path, max_bytes=max_bytes)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4), st.integers(200, 900)),
        st.tuples(st.just("kill"), st.sampled_from(["nothing", "torn", "no index", "half deleted"]), st.just(0)),
        st.tuples(st.just("resume"), st.integers(0, 5), st.just(0)),
    ),
    min_size=10,
    max_size=40,
)


@given(OPERATIONS)
@settings(deadline=None, max_examples=15)
def test_whatever_is_written_killed_and_resumed_the_end_is_whole(operations: list[tuple[str, int | str, int]]) -> None:
    """What is left is always the last part of what was written, within the bound, the newest step complete."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = TrajectoryWriter(folder, max_bytes=BOUND)
        written: list[tuple[int, str]] = []
        step = 0
        for what, how, tokens in operations:
            if what == "append":
                step += 1
                batch = [f"n{len(written) + i}-{step}" for i in range(int(how))]
                writer.append(step, [large(one, tokens) for one in batch])
                written += [(step, one) for one in batch]
                assert used(folder) <= BOUND, "no step here is larger than the bound"
            elif what == "kill":
                there = segments(folder)
                if how == "torn":
                    with there[-1].data.open("ab") as file:
                        file.write(b"\x28\xb5\x2f\xfd half a frame")
                elif how == "no index":
                    there[-1].index.unlink()
                elif how == "half deleted" and len(there) > 1:
                    there[0].data.unlink()
                writer = TrajectoryWriter(folder, max_bytes=BOUND)
            else:
                step = max(0, step - int(how))
                written = [(at, one) for at, one in written if at <= step]
                writer = TrajectoryWriter(folder, max_bytes=BOUND)
                writer.keep_until(step)
            found = ids(folder)
            assert found == [one for _, one in written[len(written) - len(found) :]]
            if what == "append":
                assert {one for at, one in written if at == step} <= set(found)
        writer.close()
        assert {path.name for path in folder.iterdir()} == {
            path.name for segment in segments(folder) for path in (segment.data, segment.index)
        }


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_store_that_goes_on(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from evaluation.trajectory_store import TrajectoryWriter\n"
        "from tests.evaluation.test_trajectory_bound import BOUND, large\n"
        "writer = TrajectoryWriter(sys.argv[1], max_bytes=BOUND)\n"
        "step = int(sys.argv[2])\n"
        "while True:\n"
        "    step += 1\n"
        "    writer.append(step, [large(f's{step}')])\n"
    )
    rng, last = random.Random(0), 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(last)], cwd=REPOSITORY)
        deadline = time.monotonic() + 120
        while not any(entry.step > last + 20 for entry in _entries(tmp_path)) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        TrajectoryWriter(tmp_path, max_bytes=BOUND).close()
        found = [int(name[1:]) for name in ids(tmp_path)]
        assert found == list(range(found[0], found[-1] + 1)) and found[-1] > last + 20
        assert used(tmp_path) <= BOUND
        last = found[-1]
    assert segments(tmp_path)[0].number > 0, "something was deleted, or nothing is shown"


def _entries(folder: Path) -> list[IndexEntry]:
    try:
        return read_trajectories(folder).entries
    except FileNotFoundError:
        return []


def test_an_index_alone_is_no_segment(tmp_path: Path) -> None:
    """A kill between the two deletions; other people's files are left alone."""
    (tmp_path / "index-000003.jsonl").write_text("{}\n")
    (tmp_path / "index-of-mine.jsonl").write_text("{}\n")
    assert segments(tmp_path) == []
    with TrajectoryWriter(tmp_path, max_bytes=BOUND) as writer:
        writer.append(1, [large("a")])
    assert [segment.number for segment in segments(tmp_path)] == [0]
    assert not Segment(tmp_path, 3).index.exists() and (tmp_path / "index-of-mine.jsonl").exists()
