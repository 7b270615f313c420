"""What an engine samples: equal to generate, to a plain forward, and to itself in any batch."""

import asyncio
from collections.abc import Callable

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from agent.engine import Completion, SamplingParams
from agent.engines.transformers import TransformersEngine
from tests.agent.engines.small_engine import PROMPTS, SIZES, TOKENIZER, VOCAB, gpt2, llama, qwen2, sample


@pytest.mark.parametrize("make", [llama, qwen2, gpt2])
def test_greedy_equals_generate(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    engine = TransformersEngine(model, TOKENIZER, max_batch=3, eos_token_ids=())
    model.generation_config.eos_token_id = None
    for prompt, completion in zip(PROMPTS, sample(engine, PROMPTS, temperature=0.0), strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
        assert list(completion.token_ids) == expected[0, len(prompt) :].tolist()
        assert completion.finish == "length"
    asyncio.run(engine.close())


@pytest.mark.parametrize("make", [llama, qwen2, gpt2])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_logprobs_equal_a_plain_forward(make: Callable[[], PreTrainedModel], temperature: float) -> None:
    model = make()
    engine = TransformersEngine(model, TOKENIZER, max_batch=3, eos_token_ids=())
    for prompt, completion in zip(PROMPTS, sample(engine, PROMPTS, temperature=temperature), strict=True):
        ids = torch.tensor([[*prompt, *completion.token_ids]])
        with torch.no_grad():
            logprobs = (model(ids).logits[0, :-1] / (temperature or 1.0)).log_softmax(-1)
        expected = logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist()
        assert completion.logprobs == pytest.approx(expected[len(prompt) - 1 :], abs=1e-4)
        scored = engine.score(ids[0].tolist(), temperature=temperature or 1.0)
        assert scored[0] == 0.0 and scored[1:] == pytest.approx(expected, abs=1e-4)
    asyncio.run(engine.close())


def test_filtered_logprobs_are_those_of_the_filtered_distribution(engine: TransformersEngine) -> None:
    [narrow] = sample(engine, PROMPTS[:1], top_k=1, temperature=1.0)
    [greedy] = sample(engine, PROMPTS[:1], temperature=0.0)
    assert narrow.token_ids == greedy.token_ids
    assert narrow.logprobs == pytest.approx([0.0] * 20)


def test_a_request_samples_the_same_alone_and_in_any_batch(engine: TransformersEngine) -> None:
    together = sample(engine, PROMPTS, temperature=0.8)
    for i, prompt in enumerate(PROMPTS):
        [alone] = sample(engine, [prompt], seeds=[i], temperature=0.8)
        assert alone.token_ids == together[i].token_ids
    backwards = sample(engine, PROMPTS[::-1], seeds=[4, 3, 2, 1, 0], temperature=0.8)
    assert [c.token_ids for c in backwards[::-1]] == [c.token_ids for c in together]


def test_mixed_settings_in_one_batch(engine: TransformersEngine) -> None:
    async def run() -> list[Completion]:
        settings = [
            SamplingParams(max_new_tokens=9, temperature=0.0),
            SamplingParams(max_new_tokens=3, temperature=1.0, seed=5),
            SamplingParams(max_new_tokens=30, temperature=0.5, top_k=4, seed=6),
            SamplingParams(max_new_tokens=5, top_p=0.6, seed=7),
        ]
        return await asyncio.gather(*(engine.generate([9, 8], p, key=str(i)) for i, p in enumerate(settings)))

    first = asyncio.run(run())
    assert [len(c.token_ids) for c in first] == [9, 3, 30, 5]
    assert first[0].token_ids == sample(engine, [[9, 8]], temperature=0.0)[0].token_ids[:9]
    assert first[2].token_ids[:20] == sample(engine, [[9, 8]], seeds=[6], temperature=0.5, top_k=4)[0].token_ids


class Parrot(LlamaForCausalLM):
    """Greedily says one fixed text: after any token it says the text's next one, by position in the sequence."""

    text: list[int]
    start: int

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, **kwargs: object) -> object:  # type: ignore[override]
        out = super().forward(input_ids=input_ids, position_ids=position_ids, **kwargs)
        out.logits = torch.full_like(out.logits, -1e4)
        for row, position in enumerate(position_ids[:, -1].tolist()):
            said = position + 1 - self.start
            out.logits[row, -1, self.text[said % len(self.text)]] = 0.0
        return out


def parrot(text: str) -> Parrot:
    model = Parrot(LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=4, max_position_embeddings=128))
    model.text, model.start = TOKENIZER.encode(text), 2
    return model.eval()


def test_a_stop_string_split_over_tokens_ends_the_completion_and_stays_in_it() -> None:
    text = "the <search>of and</search> and more"
    assert len(TOKENIZER.encode("</search>")) > 2
    engine = TransformersEngine(parrot(text), TOKENIZER, eos_token_ids=())
    [completion] = sample(engine, [[1, 2]], max_new_tokens=60, temperature=0.0, stop=("</search>", "</answer>"))
    assert completion.finish == "stop"
    assert TOKENIZER.decode(list(completion.token_ids)) == "the <search>of and</search>"
    asyncio.run(engine.close())


def test_a_stop_string_in_the_prompt_ends_nothing() -> None:
    engine = TransformersEngine(parrot(">abc"), TOKENIZER, eos_token_ids=())
    prompt = TOKENIZER.encode("</search")
    engine._model.start = len(prompt)  # type: ignore[union-attr]
    [completion] = sample(engine, [prompt], max_new_tokens=4, temperature=0.0, stop=("</search>",))
    assert completion.finish == "length" and len(completion.token_ids) == 4
    asyncio.run(engine.close())


def test_an_end_token_ends_the_completion_and_stays_in_it() -> None:
    model = parrot("the of")
    model.text = [*model.text, TOKENIZER.eos_token_id, 7]
    engine = TransformersEngine(model, TOKENIZER)
    [completion] = sample(engine, [[1, 2]], max_new_tokens=60, temperature=0.0)
    assert completion.finish == "eos"
    assert list(completion.token_ids) == model.text[:-1]
    asyncio.run(engine.close())


def test_lengths_are_cut_to_the_room_in_the_window() -> None:
    engine = TransformersEngine(llama(window=16), TOKENIZER, eos_token_ids=())
    assert engine.context_window == 16
    [completion] = sample(engine, [list(range(10))], max_new_tokens=50)
    assert len(completion.token_ids) == 6 and completion.finish == "length"
    with pytest.raises(ValueError, match="the prompt has 16 tokens and the model's context window is 16"):
        sample(engine, [list(range(16))])
    with pytest.raises(ValueError, match="17 tokens to score do not fit the context window of 16"):
        engine.score(list(range(17)))
    asyncio.run(engine.close())


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the prompt is empty"),
        ([1, VOCAB], f"but the model knows 0 to {VOCAB - 1}"),
        ([-1], "token ids run from -1"),
    ],
)
def test_bad_prompts_reach_only_their_caller(engine: TransformersEngine, prompt: list[int], message: str) -> None:
    async def run() -> tuple[Completion, object]:
        good = asyncio.create_task(engine.generate([1], SamplingParams(max_new_tokens=3), key="a"))
        with pytest.raises(ValueError, match=message):
            await engine.generate(prompt, SamplingParams(max_new_tokens=3), key="b")
        return await good, None

    assert len(asyncio.run(run())[0].token_ids) == 3
