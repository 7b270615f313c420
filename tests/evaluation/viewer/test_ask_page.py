"""A question asked from the page: the turns come one by one, what fails is said, and no stranger's page may ask."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.tiny import build_tiny_policy
from evaluation.asked_turn import AskedEnd, AskedTurn
from evaluation.viewer.app import PART_ENDS
from evaluation.viewer.ask_desk import AskDesk
from tests.evaluation.conftest import SmallWorld
from tests.evaluation.viewer.conftest import View
from tests.evaluation.viewer.sample_runs import NASTY, write_run
from tests.evaluation.viewer.test_pages import only_run, text_of


@pytest.fixture
def asked_run(small_world: SmallWorld, tmp_path: Path) -> Path:
    """A finished run over the small world, with a policy of random weights."""
    run = write_run(tmp_path / "runs" / "first", {}, finished=False)
    texts = small_world.corpus.read_text().splitlines()
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 600, "max_position_embeddings": 1024}
    build_tiny_policy(run / "model", texts, protocol=small_world.protocol, **sizes)
    config = {
        "policy": {"model": "nowhere"},
        "data": {"index": str(small_world.index), "train_questions": str(small_world.questions_file)},
        "rewards": {"exact_match": {}},
        "limits": {"max_turns": 2, "max_new_tokens_per_turn": 8, "max_trajectory_tokens": 800, "top_k": 2},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def test_a_run_is_asked_and_answers_in_parts(view: View, asked_run: Path) -> None:
    client, catalogue = view(asked_run)
    key = only_run(catalogue).key
    assert "first" in client.get("/ask").text
    form = {"run": key, "question": "q-Oslo"}
    parts = client.post("/ask", data=form, headers={"x-part": "1"}).text.split(PART_ENDS)
    assert "Turn 1" in parts[0] and parts[-1] == ""
    assert "Golden answers: Harald" in text_of(parts[-2])
    whole = text_of(client.post("/ask", data=form).text)
    assert "Turn 1" in whole and "tokens sampled" in whole


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"question": ""}, "1 to 4000 characters"),
        ({"question": "x" * 5000}, "1 to 4000 characters"),
        ({"run": "none"}, "no run"),
    ],
)
def test_what_cannot_be_asked_is_said(view: View, asked_run: Path, form: dict[str, str], told: str) -> None:
    client, catalogue = view(asked_run)
    answer = client.post("/ask", data={"run": only_run(catalogue).key, "question": "Who?", **form})
    assert answer.status_code == 200 and told in text_of(answer.text)
    assert client.post("/ask", content=b"question=" + b"x" * 200_000).status_code == 413


def test_a_run_whose_model_brings_code_is_not_asked_from_a_page(view: View, asked_run: Path) -> None:
    config = yaml.safe_load((asked_run / "config.yaml").read_text())
    config["policy"]["trust_remote_code"] = True
    (asked_run / "config.yaml").write_text(yaml.safe_dump(config))
    client, catalogue = view(asked_run)
    answer = client.post("/ask", data={"run": only_run(catalogue).key, "question": "Who?"})
    assert "waymark ask" in text_of(answer.text)


def test_code_that_a_config_below_the_run_would_let_run_is_refused_too(view: View, asked_run: Path) -> None:
    """The episode goes by the config that lies nearest to the model; a copied run may hold one there."""
    config = yaml.safe_load((asked_run / "config.yaml").read_text())
    config["policy"]["trust_remote_code"] = True
    (asked_run / "model" / "config.yaml").write_text(yaml.safe_dump(config))
    client, catalogue = view(asked_run)
    answer = client.post("/ask", data={"run": only_run(catalogue).key, "question": "Who?"})
    assert "brings code of its own" in text_of(answer.text)


def test_an_index_that_is_gone_is_said(view: View, asked_run: Path) -> None:
    text = (asked_run / "config.yaml").read_text()
    config = yaml.safe_load(text)
    config["data"]["index"] = "nowhere/at/all"
    (asked_run / "config.yaml").write_text(yaml.safe_dump(config))
    client, catalogue = view(asked_run)
    answer = client.post("/ask", data={"run": only_run(catalogue).key, "question": "Who?"})
    assert "nowhere/at/all" in answer.text and 'class="troubles"' in answer.text


def test_a_strangers_page_may_not_ask(view: View, asked_run: Path) -> None:
    client, catalogue = view(asked_run)
    form = {"run": only_run(catalogue).key, "question": "Who?"}
    assert client.post("/ask", data=form, headers={"origin": "http://evil.example"}).status_code == 403


def test_two_do_not_ask_at_once_and_hostile_turns_stay_texts(
    view: View, asked_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, catalogue = view(asked_run)
    told: list[Any] = [AskedTurn(number=1, kind="call", thought=NASTY, requests=((NASTY, NASTY),))]
    end = {"question": NASTY, "answer": NASTY, "citations": (), "golden_answers": (NASTY,), "exact_match": False}
    counts = {"num_turns": 1, "num_searches": 0, "sampled_tokens": 1, "seconds": 1.0}
    told.append(AskedEnd(finish_reason="answered", fault=NASTY, **end, **counts))
    form = {"run": only_run(catalogue).key, "question": "Who?"}

    def hostile(self: AskDesk, job: Any) -> Iterator[Any]:
        yield from told

    desk = AskDesk(catalogue)
    assert desk._busy.acquire(blocking=False)
    assert "Another question" in next(iter(desk.ask(None)))  # type: ignore[arg-type,operator]
    monkeypatch.setattr(AskDesk, "ask", hostile)
    page = client.post("/ask", data=form).text
    assert "<img" not in page and "<script>window" not in page and "window.pwned" in page
