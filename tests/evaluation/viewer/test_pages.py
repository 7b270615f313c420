"""Every page says what the run says; a page that hides a fault or drops a trajectory misleads whoever looks at it."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from evaluation.trajectory_store import TrajectoryWriter
from evaluation.viewer.app import create_app
from evaluation.viewer.catalogue import Catalogue
from evaluation.viewer.runs import Run, run_key
from evaluation.viewer.trajectory_filter import TrajectoryFilter
from tests.evaluation.episodes import QUESTION, good_trajectory
from tests.evaluation.viewer.conftest import View
from tests.evaluation.viewer.sample_runs import (
    NASTY,
    bad_trajectory,
    hostile_run,
    samples,
    whole_run,
    write_questions,
    write_run,
)


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def only_run(catalogue: object) -> Run:
    (run,) = catalogue.runs  # type: ignore[attr-defined]
    return run


def test_the_list_names_every_run_with_its_figures(view: View, tmp_path: Path) -> None:
    whole_run(tmp_path / "runs" / "first")
    whole_run(tmp_path / "runs" / "deep" / "second", finished=False)
    client, catalogue = view(tmp_path / "runs")
    page = text_of(client.get("/").text)
    assert "first" in page and "deep/second" in page
    assert "finished" in page and "running" in page
    assert page.count("trajectories 8") == 2
    assert {run.name for run in catalogue.runs} == {"first", "deep/second"}


def test_a_run_has_its_curves_and_its_histogram(view: View, tmp_path: Path) -> None:
    whole_run(tmp_path / "run")
    client, catalogue = view(tmp_path / "run")
    page = client.get(f"/run/{only_run(catalogue).key}").text
    wanted = ["Exact match", "exact_match", "hop_relevance", "Entropy", "Thinking length", "Duplicate queries"]
    for title in (*wanted, "Staleness", "Sampled tokens per second", "Log ratio of learner to sampler"):
        assert title in text_of(page), title
    assert page.count("<svg") > 10
    assert "sampled from 0.167 to 0.545" in page  # 1/6 after the first step, 6/11 after the sixth


def test_a_metric_that_metrics_lack_is_taken_from_the_trajectories(view: View, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text(
        "".join(re.sub(r'"thoughts/words": [\d.]+, ', "", line) + "\n" for line in lines)
    )
    client, catalogue = view(run)
    assert "Thinking length (words of a trajectory)" in client.get(f"/run/{only_run(catalogue).key}").text


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["fork-2", "fork-1", "root", "v2", "v1", "v0", "g-b", "g-a"]),
        ("order=oldest&step_to=1", ["g-a", "g-b"]),
        ("step_from=2&step_to=2", ["v2", "v1", "v0"]),
        ("group=u-tree", ["fork-2", "fork-1", "root"]),
        ("group=u-views-1", ["v1"]),
        ("reward_from=0.75", ["root", "v0", "g-a"]),
        ("reward_to=0", ["fork-2", "v2"]),
        ("order=highest+reward&step_to=1", ["g-a", "g-b"]),
        ("outcome=wrong", ["fork-1", "g-b"]),
        ("finish=turn_limit", []),
        ("question=q1&text=bergen+oslo&step_to=1", ["g-b", "g-a"]),
        ("text=king+of+Norw", ["fork-2", "root", "v2", "v1", "v0", "g-a"]),
        ("text=%22+OR+NEAR(%28", []),
        ("text=reigns", ["v1"]),
        ("text=king%00of+Norw", ["fork-2", "root", "v2", "v1", "v0", "g-a"]),
        ("step_from=x&after=nonsense&order=none&step_to=1", ["g-b", "g-a"]),
    ],
)
def test_trajectories_are_filtered(view: View, tmp_path: Path, query: str, ids: list[str]) -> None:
    whole_run(tmp_path / "run")
    client, catalogue = view(tmp_path / "run")
    run = only_run(catalogue)
    page = client.get(f"/run/{run.key}/trajectories?{query}")
    assert page.status_code == 200
    places = re.findall(r"trajectory\?at=([\d-]+)", page.text)
    with catalogue.index(run).reading() as database:
        named = {f"{r['segment']}-{r['offset']}": r["id"] for r in database.execute("SELECT * FROM trajectory")}
    assert [named[place] for place in places] == ids


def test_paging_shows_every_trajectory_once_in_every_order(view: View, tmp_path: Path) -> None:
    those = [replace(good_trajectory(f"t{i:03d}"), sample=i) for i in range(137)]
    write_run(tmp_path / "run", {1: those})
    client, catalogue = view(tmp_path / "run")
    for order in ("newest", "oldest", "highest+reward", "lowest+reward"):
        address, seen = f"/run/{only_run(catalogue).key}/trajectories?order={order}", []
        for _ in range(5):
            page = client.get(address).text
            seen += re.findall(r"trajectory\?at=([\d-]+)", page)
            more = re.search(r'rel="next" href="([^"]+)"', page)
            if not more:
                break
            address = f"/run/{only_run(catalogue).key}/trajectories{unescape(more[1])}"
        assert len(seen) == len(set(seen)) == 137, order


def test_a_bound_keeps_its_digits_from_page_to_page() -> None:
    asked = TrajectoryFilter.from_query({"reward_to": "0.3333333333", "step_from": "1234567", "step_to": "inf"})
    assert asked.address() == "order=newest&step_from=1234567&step_to=inf&reward_to=0.3333333333"


def test_a_place_beyond_all_numbers_is_not_there(view: View, tmp_path: Path) -> None:
    client, catalogue = view(whole_run(tmp_path / "run"))
    key = only_run(catalogue).key
    assert client.get(f"/run/{key}/trajectory?at=99999999999999999999999-0").status_code == 404


def test_a_branch_masks_the_turns_of_its_parent(view: View, tmp_path: Path) -> None:
    client, catalogue = view(whole_run(tmp_path / "run"))
    key = only_run(catalogue).key
    part = client.get(f"/run/{key}/tokens?id=fork-2&tokens=mask").text
    shared = re.findall(r'<span class="tok (\w+)" title="turn (\d): \d+ sampled tokens', part)
    assert shared == [("masked", "1"), ("masked", "2"), ("sampled", "3")]
    assert "the turns of its parent are masked" in text_of(part)


def test_one_trajectory_tells_gold_citations_repeats_and_credit(view: View, tmp_path: Path) -> None:
    whole_run(tmp_path / "run")
    client, catalogue = view(tmp_path / "run")
    key = only_run(catalogue).key
    good = client.get(f"/run/{key}/trajectory?id=g-a").text
    assert (
        QUESTION.text in good and "Find the country." in good and "Golden answers: Harald / Harald V" in text_of(good)
    )
    assert 'class="passage gold cited"' in good and "+0.50" in good and "Broken links" not in good
    assert len(re.findall(r'class="bar advantage"', good)) == 3
    bad = client.get(f"/run/{key}/trajectory?id=g-b").text
    assert "asked before" in bad and "seen before" in bad and "wrong" in bad
    told = text_of(bad)
    assert "the answer cites [9], but nothing was shown under that number" in told
    assert "hop 2 is supported by passage p2, which was never shown" in told
    assert "“Oslo” is gold and was shown, but the answer does not cite it" in told


@pytest.mark.parametrize(
    ("colouring", "classes"), [("mask", ["sampled", "masked"]), ("logprob", ["lp1", "lp2"]), ("advantage", ["advp4"])]
)
def test_tokens_are_coloured_on_demand(view: View, tmp_path: Path, colouring: str, classes: list[str]) -> None:
    whole_run(tmp_path / "run")
    client, catalogue = view(tmp_path / "run")
    key = only_run(catalogue).key
    assert 'class="tok' not in client.get(f"/run/{key}/trajectory?id=g-a").text
    part = client.get(f"/run/{key}/tokens?id=g-a&tokens={colouring}").text
    assert all(f'class="tok {name}"' in part for name in classes)
    assert "token ids are shown" in part
    assert 'class="tok' in client.get(f"/run/{key}/trajectory?id=g-a&tokens={colouring}").text


@pytest.mark.parametrize(
    ("group", "kind", "said"),
    [
        ("u-q1", "2 samples", "asked before"),
        ("u-views", "3 paraphrases", "who reigns there?"),
        ("u-tree", "3 branches", "Sweden"),
    ],
)
def test_a_group_stands_side_by_side(view: View, tmp_path: Path, group: str, kind: str, said: str) -> None:
    whole_run(tmp_path / "run")
    client, catalogue = view(tmp_path / "run")
    page = client.get(f"/run/{only_run(catalogue).key}/group?id={group}").text
    assert kind in page and said in text_of(page)
    assert ("A tree of" in page) is (group == "u-tree")


def test_two_policies_are_compared_on_a_question_and_over_all(view: View, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "old", {1: [good_trajectory("a")]})
    write_run(tmp_path / "runs" / "newer", {1: [bad_trajectory("b")]})
    client, catalogue = view(tmp_path / "runs")
    keys = {run.name: run.key for run in catalogue.runs}
    address = f"/compare?a={keys['old']}&b={keys['newer']}"
    page = text_of(client.get(address).text)
    assert "1 questions asked by both; the second is worse on 1 and better on 0" in page and "−1.00" in page
    page = text_of(client.get(f"{address}&question=q1").text)
    assert "Harald" in page and "Bergen" in page
    assert "has not asked this question" in text_of(client.get(f"{address}&question=q7").text)
    assert client.get(f"/compare?a=none&b={keys['old']}").status_code == 404


def test_hostile_texts_stay_texts_on_every_page(view: View, tmp_path: Path) -> None:
    run_folder = hostile_run(tmp_path / "runs" / "<script>window.pwned=3<!--&\"'")
    client, catalogue = view(tmp_path / "runs")
    run = only_run(catalogue)
    with catalogue.index(run).reading() as database:
        row = database.execute("SELECT * FROM trajectory").fetchone()
    at = f"{row['segment']}-{row['offset']}"
    params = {"id": row["unit_id"], "question": row["question_id"], "a": run.key, "b": run.key, "text": NASTY}
    for address in ("", f"run/{run.key}", f"run/{run.key}/trajectories", f"run/{run.key}/group", "compare"):
        page = client.get(f"/{address}", params=params)
        assert page.status_code == 200, address
        _is_harmless(page.text)
    for tokens in ("", "mask", "logprob", "advantage"):
        page = client.get(f"/run/{run.key}/trajectory", params={"at": at, "tokens": tokens})
        _is_harmless(page.text)
    assert "Who</script>" in unescape(page.text)
    _is_harmless(client.get("/run/<script>alert(1)</script>").text)
    assert run_folder.is_dir()


def _is_harmless(page: str) -> None:
    assert re.findall(r"<script[^>]*>", page) in ([], ['<script src="/static/viewer.js">'])
    assert "<img" not in page and "onerror='" not in page


def test_questions_of_the_readers_own_are_used_and_records_read_again(view: View, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {1: samples()}, questions=())
    client, catalogue = view(run)
    assert (
        "wrong"
        not in client.get(f"/run/{only_run(catalogue).key}/trajectories?order=oldest").text.partition("<tbody")[2]
    )
    own = write_questions(tmp_path / "own.jsonl", [QUESTION])
    client, catalogue = view(run, questions=(own,))
    rows = text_of(client.get(f"/run/{only_run(catalogue).key}/trajectories").text.partition("<tbody")[2])
    assert "wrong" in rows and "right" in rows and QUESTION.text in rows


def test_an_evaluation_and_its_conditions_tell_their_own_questions_and_a_tokenizer_is_given(tmp_path: Path) -> None:
    """`evaluation.json` holds wording, answers and supports; it does not say where the policy lay."""
    from tests.envs.small_world import byte_tokenizer

    columns = {"question_id": ["q1"], "question": [QUESTION.text], "golden_answers": [["Harald"]]}
    folder = tmp_path / "evaluation"
    for part in ("trajectories", "conditions/closed_book/trajectories"):
        with TrajectoryWriter(folder / part) as writer:
            writer.append(0, [good_trajectory("a")])
    (folder / "evaluation.json").write_text(
        json.dumps({"em": 1.0, "em_low": 0.5, "em_high": 1.0, "per_question": columns})
    )
    byte_tokenizer().save_pretrained(tmp_path / "policy")
    catalogue = Catalogue([tmp_path / "evaluation"], (), tmp_path / "cache", tokenizer=tmp_path / "policy")
    catalogue.fill()
    client = TestClient(create_app(catalogue, fill=False), base_url="http://127.0.0.1")
    assert {run.kind for run in catalogue.runs} == {"evaluation", "trajectories"}
    for run in catalogue.runs:
        rows = text_of(client.get(f"/run/{run.key}/trajectories").text.partition("<tbody")[2])
        assert QUESTION.text in rows and "right" in rows, run.name
        assert "token ids are shown" not in client.get(f"/run/{run.key}/tokens?id=a&tokens=logprob").text
    shown = text_of(client.get(f"/run/{run_key(folder)}").text)
    assert "Exact match 1.000 0.500 to 1.000" in shown
