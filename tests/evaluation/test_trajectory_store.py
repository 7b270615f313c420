"""A store that loses or invents a trajectory makes every figure drawn from it wrong; damage must be counted."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.trajectory_record import plain, trajectory_from_record, trajectory_record
from evaluation.trajectory_store import (
    DATA_FILE,
    INDEX_FILE,
    TrajectoryStore,
    TrajectoryWriter,
    read_trajectories,
)
from tests.evaluation.episodes import answer_turn, good_trajectory, search_turn, trajectory


def _write(folder: Path, num_steps: int = 3) -> None:
    with TrajectoryWriter(folder) as writer:
        for step in range(num_steps):
            batch = [good_trajectory(f"s{step}-a"), good_trajectory(f"s{step}-b")]
            writer.append(
                step,
                batch,
                [{"reward": 0.5 * step, "rewards": {"hop": np.array([0.5, np.nan])}}, {"reward": float("nan")}],
            )


def test_what_is_read_equals_what_was_written(tmp_path: Path) -> None:
    _write(tmp_path)
    stored = list(read_trajectories(tmp_path))
    assert [s.step for s in stored] == [0, 0, 1, 1, 2, 2]
    assert stored[0].trajectory == good_trajectory("s0-a")
    assert stored[2].extra == {"reward": 0.5, "rewards": {"hop": [0.5, None]}}
    assert stored[1].extra == {"reward": None}


@given(
    st.text(max_size=30),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    st.lists(st.integers(0, 200_000), max_size=5),
)
@settings(deadline=None, max_examples=40)
def test_records_are_lossless(text: str, logprobs: list[float], ids: list[int]) -> None:
    turn = replace(search_turn(text, [(1, "p1")], thought=text), action_logprobs=tuple(logprobs))
    before = replace(trajectory(turn, answer_turn(text, [1])), prompt_ids=tuple(ids))
    assert trajectory_from_record(json.loads(json.dumps(trajectory_record(before)))) == before


def test_one_is_read_without_the_rest(tmp_path: Path) -> None:
    _write(tmp_path)
    store = TrajectoryStore(tmp_path)
    entry = store.entries[3]
    data = bytearray((tmp_path / DATA_FILE).read_bytes())
    data[: entry.offset] = b"\0" * entry.offset
    (tmp_path / DATA_FILE).write_bytes(bytes(data))
    assert store.read("s1-b").trajectory.id == "s1-b"
    assert store.read(3).step == 1
    assert entry.scalars == {"reward": None}
    assert store.entries[4].scalars == {"reward": 1.0}
    with pytest.raises(KeyError, match="no trajectory 'x'"):
        store.read("x")


def test_the_data_file_is_plain_compressed_jsonl(tmp_path: Path) -> None:
    _write(tmp_path, num_steps=2)
    with (
        (tmp_path / DATA_FILE).open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as reader,
    ):
        lines = reader.read().decode().splitlines()
    assert [json.loads(line)["trajectory"]["id"] for line in lines] == ["s0-a", "s0-b", "s1-a", "s1-b"]


def test_damaged_records_are_counted_and_the_others_read(tmp_path: Path) -> None:
    _write(tmp_path)
    entries = TrajectoryStore(tmp_path).entries
    data = bytearray((tmp_path / DATA_FILE).read_bytes())
    middle = entries[2].offset + entries[2].length // 2
    data[middle : middle + 8] = b"\xff" * 8
    (tmp_path / DATA_FILE).write_bytes(bytes(data))
    store = read_trajectories(tmp_path)
    assert [s.trajectory.id for s in store] == ["s0-a", "s0-b", "s1-b", "s2-a", "s2-b"]
    assert store.num_corrupt == 1


def test_a_record_of_another_shape_is_counted_too(tmp_path: Path) -> None:
    _write(tmp_path, num_steps=1)
    frame = zstandard.ZstdCompressor().compress(b'{"step": 1, "trajectory": {"id": "x"}, "extra": {}}\n')
    with (tmp_path / DATA_FILE).open("ab") as file:
        file.write(frame)
    (tmp_path / INDEX_FILE).unlink()
    store = read_trajectories(tmp_path)
    assert (len(list(store)), store.num_corrupt) == (2, 1)


@pytest.mark.parametrize("damage", ["missing", "torn", "garbage"])
def test_a_broken_index_is_rebuilt_from_the_data(tmp_path: Path, damage: str) -> None:
    _write(tmp_path)
    path = tmp_path / INDEX_FILE
    before = TrajectoryStore(tmp_path).entries
    if damage == "missing":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.write_bytes(b"\xff\xfe not json\n" + path.read_bytes())
    store = read_trajectories(tmp_path)
    assert store.entries == before
    assert len(list(store)) == 6
    TrajectoryWriter(tmp_path).close()
    assert TrajectoryStore(tmp_path).entries == before
    assert TrajectoryStore(tmp_path).num_bad_index_lines == 0


@pytest.mark.parametrize("cut", [1, 40])
def test_the_writer_cuts_off_a_torn_end_and_goes_on(tmp_path: Path, cut: int) -> None:
    _write(tmp_path)
    data = tmp_path / DATA_FILE
    data.write_bytes(data.read_bytes()[:-cut])
    with TrajectoryWriter(tmp_path) as writer:
        writer.append(3, [good_trajectory("new")])
    store = read_trajectories(tmp_path)
    assert [s.trajectory.id for s in store] == ["s0-a", "s0-b", "s1-a", "s1-b", "s2-a", "new"]
    assert store.num_corrupt == 0


def test_a_frame_without_its_index_line_is_cut_off(tmp_path: Path) -> None:
    _write(tmp_path)
    with (tmp_path / DATA_FILE).open("ab") as file:
        file.write(zstandard.ZstdCompressor().compress(b"half a batch"))
    with TrajectoryWriter(tmp_path) as writer:
        writer.append(3, [good_trajectory("new")])
    assert [s.trajectory.id for s in read_trajectories(tmp_path)][-2:] == ["s2-b", "new"]


def test_a_resumed_run_drops_the_steps_that_it_will_repeat(tmp_path: Path) -> None:
    _write(tmp_path)
    with TrajectoryWriter(tmp_path) as writer:
        writer.keep_until(1)
        writer.append(2, [good_trajectory("again")])
    assert [s.trajectory.id for s in read_trajectories(tmp_path)] == ["s0-a", "s0-b", "s1-a", "s1-b", "again"]


def test_a_killed_writer_leaves_a_store_that_opens(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from evaluation.trajectory_store import TrajectoryWriter\n"
        "from tests.evaluation.episodes import good_trajectory\n"
        "writer = TrajectoryWriter(sys.argv[1])\n"
        "for step in range(20): writer.append(step, [good_trajectory(f's{step}')])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False)
    store = read_trajectories(tmp_path)
    assert (len(list(store)), store.num_corrupt) == (20, 0)


def test_bad_input_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give a run's folder"):
        read_trajectories(tmp_path)
    with TrajectoryWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match="one mapping for each"):
            writer.append(0, [good_trajectory()], [])
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            writer.append(0, [good_trajectory()], [{"x": object()}])
    assert len(read_trajectories(tmp_path)) == 0


def test_plain_turns_numpy_into_json_types() -> None:
    assert plain({"a": np.float32(0.5), "b": (np.int64(2), float("inf")), 3: True}) == {
        "a": 0.5,
        "b": [2, None],
        "3": True,
    }
