"""Episodes that open documents: what is read can be cited, an outage is typed, and somebody must be there to open."""

import pytest

from agent.protocols.registry import load_protocol
from envs.actor import EngineActor
from envs.episode import run_episode
from envs.episode_pool import run_episodes
from envs.search_env import SearchEnv
from retrieval.retriever import RetrievalError
from tests.envs.fake_engine import ANSWER, LIMITS, TOKENIZER, FakeEngine, document, found, search_then_answer, spec

OPENS = load_protocol("waymark_open")


async def open_then_answer(documents, protocol=OPENS, say=None):
    def read(episode, turn):
        return "<open>Velmora</open>" if turn == 0 else ANSWER

    env = SearchEnv(protocol, TOKENIZER, LIMITS)
    actor = EngineActor(FakeEngine(say or read))
    return await run_episode(spec(), actor=actor, env=env, search=found, documents=documents)


async def test_an_opened_document_is_read_and_can_be_cited():
    t = await open_then_answer(document)
    assert t.finish_reason == "answered" and (t.num_searches, t.num_opens) == (0, 1)
    (call,) = t.turns[0].calls
    assert (call.tool, call.argument, call.status) == ("open", "Velmora", "ok")
    assert [(h.passage.id, h.score, h.rank) for h in call.hits] == [("velmora", 0.0, 1)]
    assert "window 1 of 1\n[1] Velmora: Velmora is a town." in TOKENIZER.decode(list(t.turns[0].observation_ids))
    assert [(s.number, s.passage_id) for s in t.turns[0].shown] == [(1, "velmora")]


async def test_the_window_of_a_name_is_no_part_of_it():
    asked = []

    async def remembered(name):
        asked.append(name)
        return await document(name)

    await open_then_answer(remembered, say=lambda e, turn: "<open>Velmora | 2</open>" if turn == 0 else ANSWER)
    assert asked == ["Velmora"]


async def test_a_document_that_cannot_be_looked_up_is_an_outage():
    async def down(name):
        raise RetrievalError("no answer within 1 s")

    t = await open_then_answer(down)
    assert t.finish_reason == "retrieval_outage" and [c.status for c in t.turns[0].calls] == ["error"]


async def test_open_without_documents_is_refused_before_anything_is_sampled():
    engine = FakeEngine(search_then_answer)
    with pytest.raises(ValueError, match="protocol 'waymark_open' offers 'open', and there is nothing that opens"):
        await run_episodes(
            [spec()], actor=EngineActor(engine), search=found, protocol=OPENS, tokenizer=TOKENIZER, limits=LIMITS
        )
    with pytest.raises(ValueError, match="give documents="):
        await open_then_answer(None)
    assert not engine.requests
