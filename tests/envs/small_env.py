"""A search environment over bytes, an episode of which has begun, and what a policy and its retriever say in it."""

from agent.engine import Completion
from agent.protocol import encode_prompt
from agent.protocols.registry import load_protocol
from envs.search_env import EpisodeLimits, SearchEnv
from tests.envs.small_world import byte_tokenizer, completion

TOKENIZER = byte_tokenizer()
WAYMARK = load_protocol("waymark")
SEARCH_R1 = load_protocol("search_r1")
QUESTION = "Where was the founder of Velmora born?"
SEARCH = "<think>find founder</think><search>Who founded Velmora?</search>"
ANSWER = "<think>found all</think><answer>Quillon Bay [1]</answer>"
INVALID = "I would rather not say</answer>"


def env(protocol=WAYMARK, *, context_window=None, **limits) -> SearchEnv:
    made = SearchEnv(protocol, TOKENIZER, EpisodeLimits(**{"max_trajectory_tokens": 6000, **limits}))
    made.reset(QUESTION, context_window=context_window)
    return made


def say(text: str, finish: str = "stop") -> Completion:
    return completion(TOKENIZER, text, finish)


def text_of(ids) -> str:
    return TOKENIZER.decode(list(ids))


PROMPT = len(encode_prompt(WAYMARK, QUESTION, TOKENIZER))
