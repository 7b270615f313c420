"""The three components of consistency, against sums written out, and what each of them holds fixed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from agent.action import Action
from agent.engine import EngineError
from agent.trajectory import Trajectory, Turn
from envs.question import Question
from evaluation.consistency import (
    SIMILARITIES,
    check_wordings,
    consistency_line,
    consistency_of,
    evaluate_consistency,
    jaccard,
)
from evaluation.run import evaluate_policy_consistency
from rewards.answer import normalize_answer
from tests.envs.fake_engine import TOKENIZER, WAYMARK, found
from tests.envs.small_world import BRIDGE, COMPARISON, OverlapRetriever, search_turn
from tests.envs.unit_parts import LIMITS, Watched

ASKED = replace(BRIDGE, paraphrases=("Velmora's founder was born where?", "What is the birth place of its founder?"))
ANSWERS = ("Quillon Bay", "the Quillon Bay harbour town", "quillon bay.")


def episode(view: int, answer: str | None, *found: str, question: str = "bridge", finish="answered") -> Trajectory:
    turns = [search_turn("q", *found)] if found else []
    said = Action(kind="answer", answer=answer) if answer is not None else Action(kind="invalid")
    turns.append(Turn(action_ids=(), action_logprobs=(), action_versions=(), action=said))
    return Trajectory(
        id=f"{question}{view}",
        question_id=question,
        view=view,
        unit_id="u",
        group_id="g",
        prompt_ids=(1,),
        turns=tuple(turns),
        finish_reason=finish if answer is not None or finish != "answered" else "no_answer",
    )


def test_each_component_is_con_rags_sum() -> None:
    found = (("velmora", "tarnek"), ("velmora",), ("tarnek", "osmi", "dorel"))
    own = [episode(i, answer, *found[i]) for i, answer in enumerate(ANSWERS)]
    fixed = [own[0], episode(1, "Quillon Bay"), episode(2, "Velmora")]
    row = {k: v[0] for k, v in consistency_of(own, fixed, asked=["bridge"]).per_question.items()}
    sets = [set(ids) for ids in found]
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert row["consistency_retriever"] == pytest.approx(
        2 / (3 * 2) * sum(len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i, j in pairs)
    )
    bleu = BLEU(max_ngram_order=2, smooth_method="exp", effective_order=True, tokenize="none")
    texts = [normalize_answer(answer) for answer in ANSWERS]
    expected = sum(bleu.sentence_score(texts[i], [texts[j]]).score / 100 for i in range(3) for j in range(3) if i != j)
    assert row["consistency_end_to_end_bleu2"] == pytest.approx(expected / 6)
    f1 = 2 * (2 / 4) * (2 / 2) / (2 / 4 + 2 / 2)  # two of four words, articles left out, against two of two
    assert row["consistency_end_to_end_f1"] == pytest.approx((2 * 1.0 + 4 * f1) / 6)
    assert row["consistency_end_to_end_em"] == pytest.approx(2 / 6)
    assert row["consistency_generator_em"] == pytest.approx(2 / 6)


@pytest.mark.parametrize("answer", [None, "", "the", "?!"])
def test_saying_nothing_every_time_is_not_consistent(answer) -> None:
    nothing = [episode(view, answer) for view in range(3)]
    row = consistency_of(nothing, nothing, asked=["bridge"]).per_question
    for name in SIMILARITIES:
        assert row[f"consistency_end_to_end_{name}"].tolist() == [0.0]
    assert np.isnan(row["consistency_retriever"]).all(), "where nobody searched there is nothing to compare"


def test_an_outage_is_no_inconsistency_and_intervals_are_over_questions() -> None:
    own = [episode(0, "x"), episode(1, "b", finish="retrieval_outage"), episode(2, "x")]
    own += [episode(view, answer, question="other") for view, answer in enumerate(("x", "b"))]
    own += [episode(0, "x", question="lost"), episode(1, "x", question="lost", finish="engine_failure")]
    result = consistency_of(own, [], asked=["bridge", "other", "lost"])
    values = result.per_question["consistency_end_to_end_em"]
    assert values[:2].tolist() == [1.0, 0.0] and np.isnan(values[2])
    summary = result.summary
    assert summary["consistency_end_to_end_em"] == 0.5
    assert (summary["consistency_end_to_end_em_low"], summary["consistency_end_to_end_em_high"]) == (0.0, 1.0)
    assert summary["consistency_generator"] is None and summary["consistency_n"] == 3
    assert "generator not defined" in consistency_line(result)
    assert json.dumps(result.record(), allow_nan=False)


def test_jaccard_of_nothing_says_nothing() -> None:
    assert np.isnan(jaccard(frozenset(), frozenset())) and jaccard(frozenset("a"), frozenset()) == 0.0


def reads_along(episode: str, turn: int) -> str:
    """Every wording searches in words of its own, twice where it is not the first, and answers."""
    view = int(episode.split("-view")[1][:2])
    if turn < 1 + (view > 0):
        return f"<search>{('Velmora', 'Torvane', 'Tarn')[view]}</search>"
    return f"<answer>wording {view}</answer>"


async def test_every_wording_searches_for_itself_and_then_reads_what_the_first_one_found() -> None:
    episodes = Watched(reads_along)
    result = await evaluate_consistency([ASKED], episodes, wordings=3)
    assert [len(round) for round in episodes.rounds] == [3, 2]
    assert [spec.view for spec in episodes.specs] == [0, 1, 2, 1, 2]
    assert {spec.temperature for spec in episodes.specs} == {0.0}
    assert sorted(episodes.queries) == ["Tarn", "Tarn", "Torvane", "Torvane", "Velmora"], "no search for what is fixed"
    hits = tuple(await found("Velmora", LIMITS.top_k))
    assert [spec.pinned for spec in episodes.rounds[1]] == [(hits,), (hits,)]
    requests = [ids for key, _, ids in episodes.engine.requests if key.startswith("consistency-bridge-view01-fixed/")]
    texts = [TOKENIZER.decode(list(ids)) for ids in requests]
    assert ASKED.wording(1) in texts[0] and "Tarnek Osmi in 1204" in texts[1], "its own question over the first's hits"
    assert "founded by Ilsa Marn" not in texts[1]
    assert result.summary["consistency_end_to_end_em"] == 0.0 and result.summary["consistency_wordings"] == 3


async def test_a_first_wording_that_was_lost_leaves_the_generator_undefined() -> None:
    def say(episode: str, turn: int):
        return EngineError("gone") if "-view00" in episode else reads_along(episode, turn)

    episodes = Watched(say)
    result = await evaluate_consistency([ASKED, COMPARISON], episodes, wordings=6)
    assert [len(round) for round in episodes.rounds] == [3], "a question without a paraphrase is not asked"
    assert result.summary["consistency_generator"] is None
    assert result.summary["consistency_end_to_end_em"] == 0.0


def test_files_without_paraphrases_and_single_wordings_are_refused() -> None:
    with pytest.raises(ValueError, match="none of 1 questions has a paraphrase"):
        check_wordings([COMPARISON], 3)
    with pytest.raises(ValueError, match="compares at least 2"):
        check_wordings([ASKED], 1)


class Deaf:
    """Answers in a word of the wording, after one search of the whole of it."""

    def act(self, question: Question, view: int, turns, rng) -> str:
        return "<answer>Quillon</answer>" if turns else f"<search>{question.wording(view)}</search>"


async def test_a_policy_that_always_says_the_same_is_consistent_whatever_it_finds() -> None:
    told: list[str] = []
    result = await evaluate_policy_consistency(
        [ASKED],
        protocol=WAYMARK,
        tokenizer=TOKENIZER,
        limits=LIMITS,
        retriever=OverlapRetriever(),
        policy=Deaf(),
        wordings=2,
        on_finish=lambda trajectory: told.append(trajectory.id),
    )
    assert result.summary["consistency_generator"] == result.summary["consistency_end_to_end_bleu2"] == 1.0
    assert len(told) == 3


def test_the_verb_writes_consistency_beside_the_other_figures(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from scripts.cli import app

    world = tmp_path / "world"
    run = CliRunner().invoke
    assert run(app, ["make-world", "--preset", "tiny", "--out", str(world)]).exit_code == 0
    assert run(app, ["build-index", str(world / "corpus.jsonl"), "--out", str(tmp_path / "index")]).exit_code == 0
    arguments = ["evaluate", "scripted:expert", "--index", str(tmp_path / "index"), "--out", str(tmp_path / "out")]
    arguments += ["--questions", str(world / "questions.dev.jsonl"), "--limit", "5", "--consistency"]
    arguments += ["--wordings", "2", "--max-turns", "6"]
    result = run(app, arguments)
    assert result.exit_code == 0, result.output
    assert "end to end 1.000" in result.output
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert figures["consistency_end_to_end_em"] == 1.0 and figures["consistency_n"] == 5
    assert len(figures["consistency_per_question"]["consistency_retriever"]) == 5
