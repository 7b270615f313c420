"""A control that leaks evidence makes a leaking policy look good; each must take away what it says and nothing else."""

import asyncio
import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.protocols.registry import load_protocol
from envs.actor import ScriptedActor
from envs.datasets import read_questions
from envs.policies.registry import load_policy
from envs.search_env import EpisodeLimits
from evaluation.conditions import ConditionPools
from evaluation.controls import (
    CONTROLS,
    EmptyRetriever,
    RandomRetriever,
    _uniform_sample,
    evaluate_controls,
    oracle_decomposition,
)
from evaluation.run import evaluate_policy, evaluation_specs
from retrieval.index import build_index, open_index
from retrieval.passage import Passage
from tests.evaluation.conftest import SmallWorld

LIMITS = EpisodeLimits(top_k=2, max_turns=4)


def test_the_empty_retriever_finds_nothing_and_refuses_what_the_index_refuses(small_world: SmallWorld) -> None:
    with open_index(small_world.index) as index:
        empty = EmptyRetriever(index)
        assert empty.search(["Oslo", "king"], 2) == [[], []]
        assert empty.num_passages == 10
        assert empty.get("c-Oslo").title == "Oslo"
        with pytest.raises(ValueError, match="empty"):
            empty.search([" "], 2)
        with pytest.raises(ValueError, match="at most 10"):
            empty.search(["Oslo"], 11)


def test_random_passages_depend_on_query_and_seed_alone(small_world: SmallWorld) -> None:
    with open_index(small_world.index) as index:
        retriever = RandomRetriever(index, seed=1)
        [[*first], [*other]] = retriever.search(["Oslo", "Norway"], 4)
        assert retriever.search(["Oslo"], 4) == [first]
        assert RandomRetriever(index, seed=1).search(["Oslo"], 4) == [first]
        assert RandomRetriever(index, seed=2).search(["Oslo"], 4) != [first]
        assert first != other
        assert len({hit.passage.id for hit in first}) == 4
        assert [hit.rank for hit in first] == [1, 2, 3, 4]


class OpensTheCity:
    """Opens the page of the city that the question names, and answers with the king whom it names if any."""

    def act(self, question, view, turns, rng):
        if not turns:
            return f"<open>{question.supporting_ids[1].removeprefix('k-')}</open>"
        return "<answer>" + " ".join(hit.passage.text for call in turns[0].calls for hit in call.hits) + " [1]</answer>"


async def test_a_control_also_closes_or_shuffles_the_documents(small_world: SmallWorld) -> None:
    """A policy that opens by name must not read in the closed book what it may not find."""
    settings = {
        "protocol": load_protocol("waymark_open"),
        "tokenizer": small_world.tokenizer,
        "policy": OpensTheCity(),
    }
    limits = EpisodeLimits(top_k=2, max_turns=3, max_observation_tokens=300)
    with open_index(small_world.index) as index:
        evaluation, trajectories = await evaluate_policy(
            small_world.questions, retriever=index, limits=limits, **settings
        )
        found = await evaluate_controls(
            small_world.questions,
            index=index,
            limits=limits,
            names=["closed_book", "random_retriever"],
            **settings,
        )
    opened = {t.question_id: [s.passage_id for s in t.turns[0].shown] for t in trajectories}
    assert opened == {q.id: [q.supporting_ids[1]] for q in small_world.questions}
    assert evaluation.summary["support_recall"] == 0.5 and evaluation.summary["searches_per_question"] == 0
    _, closed = found["closed_book"]
    assert not any(turn.shown for t in closed for turn in t.turns)
    _, shuffled = found["random_retriever"]
    drawn = {t.question_id: [s.passage_id for s in t.turns[0].shown] for t in shuffled}
    assert drawn != opened and all(len(ids) == 1 for ids in drawn.values())


class SearchesThenOpens(OpensTheCity):
    """Searches once, opens the page that has the answer, searches once more, and answers."""

    def act(self, question, view, turns, rng):
        if len(turns) == 3:
            return "<answer>nobody</answer>"
        if len(turns) == 1:
            return super().act(question, view, (), rng)
        return f"<search>{question.text}</search>"


async def test_one_search_is_all_that_is_read_under_single_search(small_world: SmallWorld) -> None:
    """A second document by way of `open` is a second step of retrieval, which this control takes away."""
    protocol = load_protocol("waymark_open")
    limits = EpisodeLimits(top_k=2, max_turns=4, max_observation_tokens=300, max_opens=5)
    settings = {"protocol": protocol, "tokenizer": small_world.tokenizer, "policy": SearchesThenOpens()}
    with open_index(small_world.index) as index:
        _, free = await evaluate_policy(small_world.questions, retriever=index, limits=limits, **settings)
        found = await evaluate_controls(
            small_world.questions, index=index, limits=limits, names=["single_search"], **settings
        )
    _, controlled = found["single_search"]
    assert [(t.num_searches, t.num_opens) for t in free] == [(2, 1)] * len(free)
    assert [(t.num_searches, t.num_opens) for t in controlled] == [(1, 0)] * len(free)
    assert all(t.turns[0].shown and not t.turns[1].shown and not t.turns[2].shown for t in controlled)
    refusal = protocol.opens_used_up.strip()
    assert all(refusal in small_world.tokenizer.decode(list(t.turns[1].observation_ids)) for t in controlled)


def test_random_passages_cover_the_corpus_evenly(small_world: SmallWorld) -> None:
    with open_index(small_world.index) as index:
        found = RandomRetriever(index).search([f"query {i}" for i in range(2000)], 1)
    counts = [sum(hits[0].passage.id == id_ for hits in found) for id_ in {hits[0].passage.id for hits in found}]
    assert len(counts) == 10
    assert 140 <= min(counts) <= max(counts) <= 260


def test_the_sample_of_a_large_corpus_is_uniform() -> None:
    corpus = [Passage(id=str(i), title="", text="") for i in range(1000)]
    assert _uniform_sample(corpus[:3], 5, 0) == ("0", "1", "2")
    first_half = sum(int(i) < 500 for seed in range(40) for i in _uniform_sample(corpus, 50, seed))
    assert 900 <= first_half <= 1100 and len(set(_uniform_sample(corpus, 50, 0))) == 50


def test_of_a_large_corpus_only_the_sampled_passages_are_read() -> None:
    """A pass over 21 million passages takes minutes in which a worker answers nobody, and is started again."""

    class Large(Sequence[Passage]):
        num_read = 0

        def __len__(self) -> int:
            return 20_000_000

        def __getitem__(self, row):
            self.num_read += 1
            return Passage(id=str(row), title="", text="")

    corpus = Large()
    assert len(_uniform_sample(corpus, 100, 0)) == corpus.num_read == 100


async def test_what_a_condition_searches_is_opened_once_and_beside_the_event_loop(
    small_world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that reads a corpus on its event loop answers no health check, and is started again for ever."""
    threads: list[int] = []

    def opened(index, seed):
        threads.append(threading.get_ident())
        return RandomRetriever(index, seed)

    control = dataclasses.replace(CONTROLS["random_retriever"], retriever=opened)
    monkeypatch.setitem(CONTROLS, "random_retriever", control)
    with open_index(small_world.index) as index:
        actor = ScriptedActor(load_policy("expert", small_world.protocol), small_world.tokenizer)
        pools = ConditionPools(
            actor=actor, protocol=small_world.protocol, tokenizer=small_world.tokenizer, index=index, limits=LIMITS
        )
        await asyncio.gather(*(pools.prepare("random_retriever") for _ in range(3)))
        played = await asyncio.gather(*pools.submit(evaluation_specs(small_world.questions, name="random_retriever")))
        await pools.close()
    assert len(played) == 5 and len(threads) == 1 and threads[0] != threading.get_ident()


async def test_each_control_takes_away_what_it_says(small_world: SmallWorld) -> None:
    named: list[str] = []
    with open_index(small_world.index) as index:
        results = await evaluate_controls(
            small_world.questions,
            index=index,
            limits=LIMITS,
            policy=load_policy("expert", small_world.protocol),
            protocol=small_world.protocol,
            tokenizer=small_world.tokenizer,
            on_control=named.append,
        )
    summaries = {name: evaluation.summary for name, (evaluation, _) in results.items()}
    assert named == list(CONTROLS) == list(summaries)
    assert summaries["closed_book"]["support_recall"] == 0.0
    assert summaries["random_retriever"]["support_recall"] < 0.6
    assert summaries["single_search"]["searches_per_question"] == 1.0
    assert summaries["single_search"]["support_recall"] < 1.0
    assert summaries["closed_book"]["observed_tokens_per_question"] > 0, "the policy is told that nothing was found"


async def test_an_unknown_control_is_refused(small_world: SmallWorld) -> None:
    with open_index(small_world.index) as index, pytest.raises(ValueError, match="there are closed_book"):
        await evaluate_controls(small_world.questions, index=index, limits=LIMITS, names=["open_book"])


def test_oracle_decomposition_beside_the_question_itself(small_world: SmallWorld) -> None:
    with open_index(small_world.index) as index:
        found = oracle_decomposition(index, small_world.questions, ks=(1, 2, 50))
    assert found["oracle_decomposition"]["hop_recall@1"] == 1.0
    assert found["oracle_decomposition"]["num_searches"] == 10
    assert found["single_search_with_question"]["recall_mean@1"] <= 0.5
    assert "recall_mean@50" not in found["single_search_with_question"], "the corpus has ten passages"


@pytest.mark.data
def test_oracle_decomposition_reproduces_the_published_hop_recall(data_dir: Path, tmp_path: Path) -> None:
    """The figures of the data's README: bm25s defaults with English stopwords and the Snowball stemmer."""
    build_index(data_dir / "musique" / "corpus.jsonl.gz", tmp_path / "index")
    questions = read_questions(data_dir / "musique" / "questions.jsonl.gz")
    complete = [question for question in questions if question.selection == "complete"]
    assert (len(questions), len(complete)) == (1563, 736)
    with open_index(tmp_path / "index") as index:
        over_all = oracle_decomposition(index, questions)
        over_complete = oracle_decomposition(index, complete)["oracle_decomposition"]
    stepwise = over_all["oracle_decomposition"]
    assert stepwise["hop_recall@5"] == pytest.approx(0.837, abs=0.005)
    assert stepwise["hop_recall@10"] == pytest.approx(0.887, abs=0.005)
    assert over_complete["hop_recall@5"] == pytest.approx(0.812, abs=0.005)
    assert over_complete["hop_recall@10"] == pytest.approx(0.879, abs=0.005)
    question_alone = over_all["single_search_with_question"]
    assert question_alone["recall_mean@5"] == pytest.approx(0.436, abs=0.005)
    assert question_alone["recall_mean@10"] == pytest.approx(0.511, abs=0.005)
