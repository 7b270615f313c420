"""Runs as they really are: half written, damaged, of another version, growing, resumed, gone. None may stop the viewer,
and none may pass for whole.
"""

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from evaluation.trajectory_store import DATA_FILE, INDEX_FILE, TrajectoryWriter
from evaluation.viewer.app import create_app, snapshot
from evaluation.viewer.catalogue import Catalogue
from evaluation.viewer.runs import find_runs, is_run
from evaluation.viewer.serving import serve_viewer
from scripts.cli import main
from tests.ctrl_c import heed_ctrl_c
from tests.evaluation.episodes import good_trajectory
from tests.evaluation.viewer.conftest import View
from tests.evaluation.viewer.sample_runs import (
    add_trajectories,
    bad_trajectory,
    samples,
    whole_run,
    write_metrics,
    write_run,
)
from tests.evaluation.viewer.test_pages import only_run, text_of


def test_a_corrupt_index_line_is_skipped_counted_and_shown(view: View, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    index = run / "trajectories" / INDEX_FILE
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join([lines[0], b'{"offset": "x"}\n', b"\xff\xfe{\n", *lines[2:]]))
    client, catalogue = view(run)
    page = text_of(client.get(f"/run/{only_run(catalogue).key}/trajectories").text)
    assert "7 of 7 trajectories" in page
    assert "2 lines of the trajectories' index could not be read: skipped." in page


def test_a_damaged_record_is_skipped_counted_and_shown(view: View, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    entry = json.loads((run / "trajectories" / INDEX_FILE).read_bytes().splitlines()[1])
    data = bytearray((run / "trajectories" / DATA_FILE).read_bytes())
    data[entry["offset"] + 9 : entry["offset"] + 30] = b"\0" * 21
    (run / "trajectories" / DATA_FILE).write_bytes(bytes(data))
    client, catalogue = view(run)
    key = only_run(catalogue).key
    page = text_of(client.get(f"/run/{key}/trajectories").text)
    assert "1 trajectory could not be read" in page and "8 of 8" in page
    assert "g-b" not in text_of(client.get(f"/run/{key}/trajectories?outcome=wrong").text)
    one = client.get(f"/run/{key}/trajectory?id=g-b")
    assert one.status_code == 422 and "damaged" in one.text
    group = client.get(f"/run/{key}/group?id=u-q1")
    assert group.status_code == 200 and client.get(f"/run/{key}/trajectory?id=g-a").status_code == 200


def test_a_run_of_a_newer_version_is_read_as_far_as_it_is_known(view: View, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    index = run / "trajectories" / INDEX_FILE
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    index.write_text("".join(json.dumps({**line, "group_id": "g", "format": 9}) + "\n" for line in lines))
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "telepathy: {strength: 9}\n")
    client, catalogue = view(run)
    key = only_run(catalogue).key
    page = text_of(client.get(f"/run/{key}/trajectories").text)
    assert "8 of 8 trajectories" in page and "newer version of Waymark" in page and "format, group_id" in page
    assert "telepathy.strength" in client.get(f"/run/{key}").text


def test_a_finish_reason_of_a_newer_version_is_told(view: View, tmp_path: Path) -> None:
    import zstandard

    run = write_run(tmp_path / "run", {1: samples()})
    record = {"step": 2, "trajectory": {"finish_reason": "enlightened"}, "extra": {}}
    frame = zstandard.ZstdCompressor().compress(json.dumps(record).encode())
    at = (run / "trajectories" / DATA_FILE).stat().st_size
    with (run / "trajectories" / DATA_FILE).open("ab") as data, (run / "trajectories" / INDEX_FILE).open("a") as index:
        data.write(frame)
        line = json.loads((run / "trajectories" / INDEX_FILE).read_text().splitlines()[0])
        index.write(json.dumps({**line, "offset": at, "length": len(frame), "id": "new", "step": 2}) + "\n")
    client, catalogue = view(run)
    key = only_run(catalogue).key
    assert "1 trajectory could not be read" in text_of(client.get(f"/run/{key}").text)
    one = client.get(f"/run/{key}/trajectory?id=new")
    assert one.status_code == 422 and "enlightened" in one.text and "newer version" in one.text


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.yaml", "seed: 0\npolicy: {model", "config.yaml cannot be read"),
        ("metrics.jsonl", '{"step": 1, "em": 0.5}\nnot json\n{"step": 2', "1 lines of metrics.jsonl could not be read"),
        ("metrics.jsonl", None, "There is no metrics.jsonl yet"),
        ("evaluation.json", '{"n": 5, "em"', "evaluation.json cannot be read"),
        ("evaluation.json", "[1, 2]", "evaluation.json cannot be read (it holds list"),
        ("evaluation.json", '{"em": 0.5, "em_low": "x", "controls": [1], "comparability": 7}', "0.500"),
        ("trajectories/index.jsonl", None, "index.jsonl is missing beside the trajectories"),
        ("alarms.jsonl", '{"step": 3, "message": "entropy rose"}\n{"st', "entropy rose"),
    ],
)
def test_a_half_written_run_is_shown_with_what_is_wrong(
    view: View, tmp_path: Path, name: str, content: str | None, told: str
) -> None:
    run = whole_run(tmp_path / "run", finished=False)
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_text(content)
    client, catalogue = view(run)
    page = client.get(f"/run/{only_run(catalogue).key}")
    assert page.status_code == 200 and told.lower() in text_of(page.text).lower()
    assert client.get("/").status_code == 200


def test_a_run_that_grows_is_followed_and_torn_ends_wait(view: View, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {1: samples()}, finished=False)
    client, catalogue = view(run)
    one = only_run(catalogue)
    before = snapshot(catalogue, one)
    index = run / "trajectories" / INDEX_FILE
    whole = index.read_bytes()
    index.write_bytes(whole + b'{"offset": 0, "len')
    assert snapshot(catalogue, one) == before
    index.write_bytes(whole)
    add_trajectories(run, {2: [good_trajectory("late")]})
    write_metrics(run, [7])
    catalogue.fill()
    after = snapshot(catalogue, one)
    assert (after["trajectories"], after["read"], after["step"]) == (3, 3, 7)
    assert client.get(f"/run/{one.key}/trajectory?id=late").status_code == 200


def test_a_resumed_run_that_samples_again_has_nothing_twice(view: View, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {1: samples(), 2: [good_trajectory("void")]}, finished=False)
    client, catalogue = view(run)
    with TrajectoryWriter(run / "trajectories") as writer:
        writer.keep_until(1)
        writer.append(2, [bad_trajectory("again"), bad_trajectory("more")])
    (run / "metrics.jsonl").unlink()
    write_metrics(run, [1, 2])
    catalogue.fill()
    page = text_of(client.get(f"/run/{only_run(catalogue).key}/trajectories").text)
    assert "4 of 4 trajectories" in page
    assert client.get(f"/run/{only_run(catalogue).key}/trajectory?id=void").status_code == 404
    assert only_run(catalogue).metrics.points("em")[-1][0] == 2


def test_the_oldest_that_a_bound_deletes_leave_the_list(view: View, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {}, finished=False)
    with TrajectoryWriter(run / "trajectories", max_bytes=60_000) as writer:
        writer.append(1, [good_trajectory(f"a{i}") for i in range(3)])
        _, catalogue = view(run)
        one = only_run(catalogue)
        assert snapshot(catalogue, one)["trajectories"] == 3
        for step in range(2, 150):
            writer.append(step, [good_trajectory(f"s{step}-{i}") for i in range(3)])
    catalogue.fill()
    with catalogue.index(one).reading() as database:
        first = database.execute("SELECT min(step), count(*), count(DISTINCT id) FROM trajectory").fetchone()
    assert first[0] > 1 and first[1] == first[2]


def test_a_run_deleted_while_it_is_viewed_is_told(view: View, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "runs" / "gone")
    whole_run(tmp_path / "runs" / "stays")
    client, catalogue = view(tmp_path / "runs")
    key = next(run.key for run in catalogue.runs if run.name == "gone")
    shutil.rmtree(run)
    for address in ("", "/trajectories"):
        page = client.get(f"/run/{key}{address}")
        assert page.status_code == 200 and "is gone" in text_of(page.text)
    for address in ("trajectory?id=g-a", "group?id=u-q1", "tokens?id=g-a"):
        page = client.get(f"/run/{key}/{address}")
        assert page.status_code == 410 and "gone" in text_of(page.text)
    listed = text_of(client.get("/").text)
    assert "gone" in listed and "stays" in listed
    assert snapshot(catalogue, catalogue.runs.get(key))["state"] == "gone"  # type: ignore[arg-type]
    catalogue.fill()


def test_a_record_file_deleted_under_a_page_is_told(view: View, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    client, catalogue = view(run)
    key = only_run(catalogue).key
    catalogue.index(only_run(catalogue)).catch_up = lambda most=0: 0  # type: ignore[method-assign]
    (run / "trajectories" / DATA_FILE).unlink()
    assert client.get(f"/run/{key}/trajectory?id=g-a").status_code == 410


def test_the_run_folder_is_never_written_to(view: View, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "runs" / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    client, catalogue = view(tmp_path / "runs")
    client.get("/")
    client.get(f"/run/{only_run(catalogue).key}/trajectories?text=oslo")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before
    assert run.is_dir()


@pytest.mark.parametrize("content", [b"no database at all, but text" * 40, b""])
def test_an_index_that_is_damaged_or_of_another_version_is_made_anew(
    view: View, tmp_path: Path, content: bytes
) -> None:
    run = whole_run(tmp_path / "run")
    _, catalogue = view(run)
    (file,) = (tmp_path / "cache").glob("*.sqlite")
    file.write_bytes(content)
    client, catalogue = view(run)
    assert "8 of 8" in text_of(client.get(f"/run/{only_run(catalogue).key}/trajectories").text)
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 99")
    client, catalogue = view(run)
    assert "8 of 8" in text_of(client.get(f"/run/{only_run(catalogue).key}/trajectories").text)


def test_a_second_session_reads_no_record_twice(view: View, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    view(run)
    _, catalogue = view(run, fill=False)
    assert catalogue.fill_once() == 0


def test_a_file_that_goes_while_it_is_read_is_no_error(tmp_path: Path) -> None:
    """Pages are made on several threads: one may see the folder deleted while another parses what it held."""
    run = whole_run(tmp_path / "run")
    catalogue = Catalogue([run], (), tmp_path / "cache")
    one = only_run(catalogue)

    def parse(text: str) -> dict[str, int]:
        (run / "late.json").unlink()
        one._load("late.json", json.loads)  # what the other thread does
        return {"x": 1}

    (run / "late.json").write_text("{}")
    assert one._load("late.json", parse) == {"x": 1}


def test_a_folder_that_may_not_be_read_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed", "open"):
        whole_run(tmp_path / "runs" / name)

    def refused(folder: Path) -> bool:
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return is_run(folder)

    monkeypatch.setattr("evaluation.viewer.runs.is_run", refused)
    assert [path.name for path in find_runs(tmp_path / "runs")] == ["open"]


@pytest.mark.parametrize("named", ["tunnel.example", "Tunnel.Example:443"])
def test_further_names_are_taken_as_they_are_given(view: View, tmp_path: Path, named: str) -> None:
    _, catalogue = view(whole_run(tmp_path / "run"))
    client = TestClient(create_app(catalogue, hosts=[named], fill=False), base_url="http://tunnel.example")
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"host": "other.example"}).status_code == 403


def test_strangers_names_methods_and_files_are_refused(view: View, tmp_path: Path) -> None:
    client, _ = view(whole_run(tmp_path / "run"))
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    for host, status in (("evil.example", 403), ("127.0.0.1.evil.example:8700", 403), ("localhost:8700", 200)):
        assert client.get("/", headers={"host": host}).status_code == status, host
    assert client.get("/", headers={"host": "[::1]:8700"}).status_code == 200
    assert client.post("/", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/").status_code == 405
    assert client.get("/run/nowhere/events").status_code == 404
    for path in ("/static/../app.py", "/static/..%2fapp.py", "/docs", "/openapi.json", "/nowhere"):
        assert client.get(path).status_code == 404, path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not there"),
        (["file"], "is a file; name the folder"),
        (["runs", "--questions", "none.jsonl"], "--questions: there is no file none.jsonl"),
        (["runs", "--questions", "file"], "--questions: file cannot be read as questions"),
        (["runs", "--tokenizer", "runs"], "--tokenizer: runs has no tokenizer.json"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_two(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(SystemExit) as ended:
        main(["view", *arguments, "--port", "0", "--cache", "cache"])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} on 127.0.0.1 is taken .* --port"):
            serve_viewer([tmp_path / "not-even-there"], port=port)


def test_a_missing_package_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.viewer.serving.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"fastapi and uvicorn.*pip install"):
        serve_viewer([tmp_path])


def test_the_verb_serves_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    import signal
    import urllib.request

    whole_run(tmp_path / "run")
    command = [
        sys.executable,
        "-m",
        "scripts.view",
        str(tmp_path / "run"),
        "--port",
        "0",
        "--cache",
        str(tmp_path / "c"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("viewing 1 run at http://127.0.0.1:"), line
        with urllib.request.urlopen(line.split()[-1], timeout=20) as answer:
            assert b"run" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
