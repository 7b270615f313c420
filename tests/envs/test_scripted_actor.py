"""A scripted policy acts as a sampled one would: through the same door, with the same endings, in every protocol."""

import pytest

from agent.protocols.registry import load_protocol
from envs.actor import ActionRequest, ScriptedActor
from envs.episode_pool import run_episodes
from envs.policies.expert import ExpertPolicy
from tests.agent.chat_templates import CHATS
from tests.envs.fake_engine import ANSWER, LIMITS, TOKENIZER, WAYMARK, found, spec
from tests.envs.small_world import BRIDGE


def request(**fields) -> ActionRequest:
    defaults = {"key": "k", "token_ids": (1,), "view": 0, "turns": (), "max_new_tokens": 500, "seed": 0}
    return ActionRequest(**{**defaults, "question": BRIDGE, "stop": WAYMARK.stop, **fields})


async def test_a_scripted_action_ends_as_sampling_would_have_ended():
    class Says:
        def __init__(self, text):
            self.text = text

        def act(self, question, view, turns, rng):
            return self.text

    stopped = await ScriptedActor(Says(ANSWER), TOKENIZER).act(request())
    assert stopped.finish == "stop" and TOKENIZER.decode(list(stopped.token_ids)) == ANSWER
    assert set(stopped.logprobs) == {0.0} and set(stopped.versions) == {0}
    ended = await ScriptedActor(Says("no idea"), TOKENIZER).act(request())
    assert ended.finish == "eos" and ended.token_ids[-1] == TOKENIZER.eos_token_id
    cut = await ScriptedActor(Says(ANSWER), TOKENIZER).act(request(max_new_tokens=5))
    assert cut.finish == "length" and len(cut.token_ids) == 5


async def test_a_scripted_policy_plays_through_the_same_door():
    actor = ScriptedActor(ExpertPolicy(WAYMARK), TOKENIZER)
    (t,) = await run_episodes([spec()], actor=actor, search=found, protocol=WAYMARK, tokenizer=TOKENIZER, limits=LIMITS)
    assert t.finish_reason == "answered" and t.num_searches == 2


@pytest.mark.parametrize("chat", CHATS[:4], ids=lambda chat: chat.name)
async def test_a_scripted_policy_plays_through_a_chat_template(chat):
    protocol, tokenizer = load_protocol("hermes"), chat.tokenizer()
    actor = ScriptedActor(ExpertPolicy(protocol), tokenizer)
    (t,) = await run_episodes(
        [spec()], actor=actor, search=found, protocol=protocol, tokenizer=tokenizer, limits=LIMITS
    )
    assert t.finish_reason == "answered" and t.final_answer == "Quillon" and t.num_searches == 2
    end = tokenizer.convert_tokens_to_ids(chat.end_of_turn)
    assert [turn.action_ids[-1] == end for turn in t.turns] == [True, True, False]
    assert not any(turn.observation_ids[:1] == (end,) for turn in t.turns)
