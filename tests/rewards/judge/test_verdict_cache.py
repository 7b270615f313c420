"""The file of verdicts: across restarts and processes, through a kill, keyed by all that matters, never a failure."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rewards.judge.answer_scale import AnswerScale
from rewards.judge.endpoint import EndpointJudge
from rewards.judge.judge import Verdict
from rewards.judge.prompt import load_prompt, prompt_for
from rewards.judge.verdict_cache import VerdictCache
from tests.rewards.judge.chat_server import ChatServer
from tests.rewards.judge.requests import answer

MakeJudge = Callable[..., EndpointJudge]
REPOSITORY = Path(__file__).resolve().parents[3]
SCALE = AnswerScale(labels={"correct": 1.0, "incorrect": 0.0})
RIGHT = Verdict(score=1.0, label="correct", reason="r")
ASK = """
import json, sys
from rewards.judge import JudgeRequest, open_judge
judge = open_judge(json.loads(sys.argv[1]))
fields = {"question": "Where was Mara Voss born?", "answer": "Arlen", "golds": ["Arlen"]}
[verdict] = judge.ask([JudgeRequest(criterion="answer", fields=fields)])
print(verdict.score, judge.cached, judge.requests)
"""
WRITE = """
import sys
from pathlib import Path
from rewards.judge.judge import Verdict
from rewards.judge.verdict_cache import VerdictCache
cache = VerdictCache(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    cache.put(f"{sys.argv[2]}-{i}", Verdict(score=1.0, label="correct", reason="r"))
    print(i, flush=True)
print("faults", cache.faults, flush=True)
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_a_verdict_is_remembered_within_a_judge_without_a_file(server: ChatServer, judge_with: MakeJudge) -> None:
    judge = judge_with()
    assert judge.ask([answer()]) == judge.ask([answer()])
    assert (len(server.bodies), judge.asked, judge.cached) == (1, 2, 1)


def test_a_verdict_is_read_after_a_restart_and_by_another_process(
    server: ChatServer, judge_with: MakeJudge, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "judge.sqlite"
    first = judge_with(cache=file)
    said = first.ask([answer()])
    second = judge_with(cache=file)
    assert second.ask([answer()]) == said
    assert (second.cached, second.requests, second.asked) == (1, 0, 1)
    first.close()
    other = python(ASK, json.dumps({**server.spec(), "cache": str(file)}))
    assert other.communicate(timeout=60)[0].split() == ["1.0", "1", "0"]
    assert len(server.bodies) == 1


def test_several_processes_write_one_file_at_once(tmp_path: Path) -> None:
    file = tmp_path / "judge.sqlite"
    writers = [python(WRITE, str(file), name, "100") for name in ("a", "b", "c")]
    assert [w.communicate(timeout=60)[0].split()[-1] for w in writers] == ["0"] * 3, "no write was lost"
    cache = VerdictCache(file)
    assert len(cache.get({f"{name}-{i}": SCALE for name in "abc" for i in range(100)})) == 300
    cache.close()


def test_what_was_written_before_a_kill_is_there_and_the_file_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "judge.sqlite"
    writer = python(WRITE, str(file), "k", "1000000")
    assert writer.stdout is not None
    written = [int(writer.stdout.readline()) for _ in range(20)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate(timeout=30)
    cache = VerdictCache(file)
    assert len(cache.get({f"k-{i}": SCALE for i in written})) == 20
    cache.put("after", RIGHT)
    assert cache.get({"after": SCALE}) == {"after": RIGHT} and cache.faults == 0
    cache.close()
    with sqlite3.connect(file) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_another_model_prompt_question_or_decoding_is_another_key(
    server: ChatServer, judge_with: MakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, messages = prompt_for(answer())
    judge = judge_with()
    keys = {judge.key(prompt, messages)}
    for changed in (
        {"model": "m2"},
        {"temperature": 0.5},
        {"max_answer_tokens": 64},
        {"extra_body": {"seed": 1}},
        {"response_format": "text"},
        {"url": server.url.replace("127.0.0.1", "localhost")},
    ):
        keys.add(judge_with(**changed).key(prompt, messages))
    keys.add(judge.key(*prompt_for(answer("Besk"))))
    newer = type(prompt)(
        criterion=prompt.criterion, version="2.1", system=prompt.system, scale=load_prompt("answer").scale
    )
    reworded = type(prompt)(
        criterion=prompt.criterion, version=prompt.version, system=prompt.system + " Be kind.", scale=prompt.scale
    )
    keys |= {judge.key(newer, messages), judge.key(reworded, reworded.messages(answer().fields))}
    assert len(keys) == 10
    same = judge_with(url=server.url + "/v1/", retries=7, timeout_s=3, max_requests=5, max_concurrency=2)
    assert same.key(prompt, messages) in keys, "how it is asked changes nothing of what is said"


def test_failures_are_never_kept(server: ChatServer, judge_with: MakeJudge, tmp_path: Path) -> None:
    file = tmp_path / "judge.sqlite"
    server.faults = [b"no JSON", 500, 500, 500]
    judge = judge_with(cache=file)
    for _ in range(2):
        assert math.isnan(judge.ask([answer()])[0].score)
    judge.close()
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM verdicts").fetchone() == (0,)
    with pytest.raises(ValueError, match="a failed verdict is never kept"):
        VerdictCache(None).put("k", Verdict(score=math.nan, reason="r"))


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[0.5, null, null]",
        '[0.0, "correct", "r"]',
        '[NaN, "correct", "r"]',
        '[1.0, "correct"]',
        "{}",
        "7",
        '[1.0, "right", "r"]',
        "[" * 50_000,
    ],
)
def test_a_row_that_the_scale_could_not_have_given_is_judged_again(tmp_path: Path, text: str) -> None:
    cache = VerdictCache(tmp_path / "judge.sqlite")
    cache.put("good", RIGHT)
    with sqlite3.connect(tmp_path / "judge.sqlite") as database:
        database.execute("INSERT INTO verdicts VALUES ('bad', ?)", (text,))
    assert cache.get({"good": SCALE, "bad": SCALE}) == {"good": RIGHT}
    assert cache.faults == 1
    cache.close()


def test_a_row_that_is_a_pickle_is_never_run(tmp_path: Path) -> None:
    cache = VerdictCache(tmp_path / "judge.sqlite")
    evil = b"cbuiltins\nexec\n(V__import__('pathlib').Path(" + repr(str(tmp_path / "ran")).encode() + b").touch()\ntR."
    with sqlite3.connect(tmp_path / "judge.sqlite") as database:
        database.execute("INSERT INTO verdicts VALUES ('bad', ?)", (evil,))
    assert cache.get({"bad": SCALE}) == {} and not (tmp_path / "ran").exists()
    cache.close()


def test_a_file_that_is_something_else_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, and long enough to be taken for a header " * 20)
    with pytest.raises(ValueError, match=r"notes\.txt cannot be .*the cache of verdicts .*name another"):
        VerdictCache(file)
    assert file.read_text().startswith("not a database"), "what was there stays"


def test_a_broken_cache_costs_a_request_and_is_counted(
    server: ChatServer, judge_with: MakeJudge, tmp_path: Path
) -> None:
    judge = judge_with(cache=tmp_path / "judge.sqlite")
    with sqlite3.connect(tmp_path / "judge.sqlite") as database:
        database.execute("DROP TABLE verdicts")
    assert [judge.ask([answer()])[0].score for _ in range(2)] == [1.0, 1.0]
    assert (len(server.bodies), judge.cache_faults, judge.failed) == (2, 4, 0)


def test_many_keys_are_looked_up_at_once() -> None:
    cache = VerdictCache(None)
    for i in range(1_200):
        cache.put(str(i), RIGHT)
    began = time.perf_counter()
    assert len(cache.get({str(i): SCALE for i in range(2_000)})) == 1_200
    assert time.perf_counter() - began < 2
    cache.close()
