import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.transformers import TransformersEngine, load_engine
from agent.protocol import load_protocol
from agent.tiny import build_tiny_policy
from tests.agent.tokenizers_for_tests import bpe_tokenizer

TOKENIZER = bpe_tokenizer(["search answer the of and"] * 3, vocab_size=290)
VOCAB = len(TOKENIZER)
SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def spread(model: PreTrainedModel) -> PreTrainedModel:
    """Weights large enough that the distribution is not flat."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.25)
    return model.eval()


def llama(window: int = 128) -> PreTrainedModel:
    config = LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=4, max_position_embeddings=window)
    return spread(LlamaForCausalLM(config))


def qwen2() -> PreTrainedModel:
    config = Qwen2Config(**SIZES, intermediate_size=48, num_key_value_heads=2, max_position_embeddings=128)
    return spread(Qwen2ForCausalLM(config))


def gpt2() -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=0
    )
    return spread(GPT2LMHeadModel(config))


PROMPTS = [[5, 9, 30], [7], [200, 3, 3, 8, 41, 250, 17, 6, 90, 11], [44, 45], [12, 13, 14, 15, 16, 17, 18]]


@pytest.fixture(params=["eager", "deterministic"])
def engine(request: pytest.FixtureRequest) -> Iterator[TransformersEngine]:
    made = TransformersEngine(llama(), TOKENIZER, schedule=request.param, max_batch=4, eos_token_ids=())
    yield made
    asyncio.run(made.close())


def sample(
    engine: TransformersEngine, prompts: list[list[int]], seeds: list[int] | None = None, **params: object
) -> list[Completion]:
    """All prompts at once, on a loop of their own; seed = index."""
    options = {"max_new_tokens": 20, **params}

    async def run() -> list[Completion]:
        return await asyncio.gather(
            *(
                engine.generate(p, SamplingParams(seed=seeds[i] if seeds else i, **options), key=f"{i:03d}")
                for i, p in enumerate(prompts)
            )
        )

    return asyncio.run(run())


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


def record_batches(engine: TransformersEngine) -> list[list[str]]:
    """Keys of the rows admitted together, in order."""
    batches: list[list[str]] = []
    admit = engine._batch.admit

    def recorded(requests: list[object], version: int) -> None:
        batches.append([r.key for r in requests])  # type: ignore[attr-defined]
        admit(requests, version)  # type: ignore[arg-type]

    engine._batch.admit = recorded  # type: ignore[method-assign, assignment]
    return batches


@pytest.mark.parametrize("delays", [(0.0, 0.02, 0.04), (0.04, 0.0, 0.02)])
def test_the_deterministic_schedule_waits_for_all_and_sorts_by_key(delays: tuple[float, ...]) -> None:
    engine = TransformersEngine(llama(), TOKENIZER, schedule="deterministic", max_batch=2, eos_token_ids=())
    batches = record_batches(engine)

    async def episode(name: str, delay: float) -> list[tuple[int, ...]]:
        with engine.episode():
            said = []
            for turn in range(2):
                await asyncio.sleep(delay)
                params = SamplingParams(max_new_tokens=5 + ord(name) % 3, seed=turn)
                said.append((await engine.generate([ord(name)], params, key=f"{name}/{turn}")).token_ids)
            return said

    async def run() -> list[list[tuple[int, ...]]]:
        return await asyncio.gather(*(episode(n, d) for n, d in zip("cab", delays, strict=True)))

    said = asyncio.run(run())
    assert batches == [["a/0", "b/0"], ["c/0"], ["a/1", "b/1"], ["c/1"]]
    assert len({tuple(s) for s in said}) == 3
    asyncio.run(engine.close())


def test_an_episode_that_ends_does_not_hold_back_the_others() -> None:
    engine = TransformersEngine(llama(), TOKENIZER, schedule="deterministic", eos_token_ids=())

    async def short() -> None:
        with engine.episode():
            await asyncio.sleep(0.05)

    async def long() -> Completion:
        with engine.episode():
            return await engine.generate([4], SamplingParams(max_new_tokens=3), key="a")

    async def run() -> Completion:
        return (await asyncio.wait_for(asyncio.gather(long(), short()), timeout=10))[0]

    assert len(asyncio.run(run()).token_ids) == 3
    asyncio.run(engine.close())


def play_turns(
    engine: TransformersEngine, num_episodes: int, turns: int, update: PreTrainedModel | None = None
) -> list:
    """Episodes whose prompts grow by what they said and by an observation; returns all completions of each."""

    async def episode(number: int) -> list[Completion]:
        ids, said = [3 + number, *range(20, 24 + number % 3)], []
        with engine.episode():
            for turn in range(turns):
                params = SamplingParams(max_new_tokens=4 + (number + turn) % 4, seed=number * turns + turn)
                said.append(await engine.generate(ids, params, key=f"e{number}/{turn}"))
                ids = [*ids, *said[-1].token_ids, *range(40, 41 + (number + turn) % 5)]
                await asyncio.sleep(0.001 * (number % 3))
                if update is not None and number == 0:
                    engine.update_weights(update.named_parameters(), version=engine.version + 1)
        return said

    async def run() -> list[list[Completion]]:
        return await asyncio.gather(*(episode(n) for n in range(num_episodes)))

    return asyncio.run(run())


@pytest.mark.parametrize("schedule", ["eager", "deterministic"])
@pytest.mark.parametrize("max_batch", [2, 5, 16])
@pytest.mark.parametrize("make", [llama, qwen2])
def test_going_on_from_the_last_turn_changes_no_sample(
    make: Callable[[], PreTrainedModel], max_batch: int, schedule: str
) -> None:
    said, work = [], []
    for reuse in (True, False):
        engine = TransformersEngine(make(), TOKENIZER, schedule=schedule, max_batch=max_batch, eos_token_ids=())  # type: ignore[arg-type]
        engine._batch._reuse = reuse
        said.append([[c.token_ids for c in turns] for turns in play_turns(engine, num_episodes=7, turns=4)])
        work.append(engine._batch.prefilled_tokens)
        asyncio.run(engine.close())
    assert said[0] == said[1]
    assert work[0] < work[1] if max_batch > 7 else work[0] <= work[1]


def test_new_weights_end_what_the_old_ones_computed() -> None:
    engine = TransformersEngine(llama(), TOKENIZER, max_batch=4, eos_token_ids=())
    reference = TransformersEngine(llama(), TOKENIZER, max_batch=4, eos_token_ids=())
    reference._batch._reuse = False
    for made in (engine, reference):
        play_turns(made, num_episodes=1, turns=3, update=made._model)  # type: ignore[arg-type]
    assert engine._batch.prefilled_tokens == reference._batch.prefilled_tokens
    for made in (engine, reference):
        asyncio.run(made.close())


def test_requests_join_a_running_batch_when_eager() -> None:
    engine = TransformersEngine(llama(), TOKENIZER, schedule="eager", max_batch=4, eos_token_ids=())

    async def run() -> bool:
        long = asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=120), key="long"))
        await asyncio.sleep(0.01)
        await engine.generate([5], SamplingParams(max_new_tokens=2), key="short")
        still_running = not long.done()
        await long
        return still_running

    assert asyncio.run(run())
    asyncio.run(engine.close())


def test_the_event_loop_stays_free_while_the_engine_computes(engine: TransformersEngine) -> None:
    async def run() -> int:
        ticks = 0
        task = asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=100), key="a"))
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return ticks

    assert asyncio.run(run()) > 5


class Broken(LlamaForCausalLM):
    """Fails at the n-th forward."""

    forwards_left = 4

    def forward(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        self.forwards_left -= 1
        if self.forwards_left == 0:
            raise RuntimeError("out of luck")
        return super().forward(*args, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["eager", "deterministic"])
def test_a_failure_resolves_everybody_and_the_engine_goes_on(schedule: str) -> None:
    config = LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=4, max_position_embeddings=128)
    engine = TransformersEngine(Broken(config), TOKENIZER, schedule=schedule, max_batch=2, eos_token_ids=())  # type: ignore[arg-type]

    async def run() -> list[Completion | BaseException]:
        requests = (engine.generate(p, SamplingParams(max_new_tokens=9), key=str(p)) for p in PROMPTS)
        return await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), timeout=10)

    results = asyncio.run(run())
    assert all(isinstance(r, EngineError) and "RuntimeError: out of luck" in str(r) for r in results)
    assert len(sample(engine, PROMPTS, max_new_tokens=3)) == len(PROMPTS)
    asyncio.run(engine.close())


def test_weights_that_are_not_finite_fail_loudly(engine: TransformersEngine) -> None:
    with torch.no_grad():
        engine._model.model.norm.weight[0] = torch.nan  # type: ignore[union-attr, index]
    with pytest.raises(EngineError, match="are not finite: the weights have diverged"):
        sample(engine, PROMPTS[:1])


def test_a_cancelled_request_leaves_its_row(engine: TransformersEngine) -> None:
    async def run() -> int:
        doomed = asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=120), key="a"))
        other = asyncio.create_task(engine.generate([5], SamplingParams(max_new_tokens=8), key="b"))
        await asyncio.sleep(0.005)
        doomed.cancel()
        return len((await asyncio.wait_for(other, timeout=10)).token_ids)

    assert asyncio.run(run()) == 8
    assert len(sample(engine, [[5]])[0].token_ids) == 20


def test_a_loop_that_is_torn_down_leaves_a_usable_engine(engine: TransformersEngine) -> None:
    async def run() -> None:
        asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=120), key="a"))  # noqa: RUF006
        await asyncio.sleep(0.005)

    asyncio.run(run())
    assert len(sample(engine, [[5]])[0].token_ids) == 20


def test_closing_fails_what_waits_and_what_comes_later() -> None:
    engine = TransformersEngine(llama(), TOKENIZER, schedule="deterministic", eos_token_ids=())
    threads = threading.active_count()

    async def run() -> None:
        with engine.episode(), engine.episode():
            waiting = asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=9), key="a"))
            await asyncio.sleep(0.01)
            await engine.close()
            with pytest.raises(EngineError, match="the engine was closed"):
                await waiting
            with pytest.raises(EngineError, match="the engine is closed"):
                await engine.generate([4], SamplingParams(max_new_tokens=9), key="b")

    asyncio.run(run())
    asyncio.run(engine.close())
    assert threading.active_count() <= threads


def test_new_weights_sample_with_a_new_version(engine: TransformersEngine) -> None:
    before = sample(engine, PROMPTS, temperature=0.0)
    assert engine.version == 0 and set(before[0].versions) == {0}
    other = llama()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(-0.9)
    engine.update_weights(other.named_parameters(), version=3)
    after = sample(engine, PROMPTS, temperature=0.0)
    assert engine.version == 3 and set(after[0].versions) == {3}
    reference = TransformersEngine(other, TOKENIZER, max_batch=4, eos_token_ids=())
    assert [c.token_ids for c in after] == [c.token_ids for c in sample(reference, PROMPTS, temperature=0.0)]
    assert before != after
    asyncio.run(reference.close())


def test_weights_change_between_two_tokens_and_each_token_says_which() -> None:
    engine = TransformersEngine(llama(), TOKENIZER, eos_token_ids=())
    other = llama()

    async def run() -> Completion:
        task = asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=120), key="a"))
        while engine._batch.num_steps < 3:
            await asyncio.sleep(0)
        engine.update_weights(other.named_parameters(), version=1)
        return await task

    versions = asyncio.run(run()).versions
    assert versions[0] == 0 and versions[-1] == 1 and list(versions) == sorted(versions)
    asyncio.run(engine.close())


def test_weights_that_do_not_fit_leave_the_old_ones_whole(engine: TransformersEngine) -> None:
    before = {name: weight.clone() for name, weight in engine._model.named_parameters()}
    good = {name: torch.zeros_like(weight) for name, weight in before.items()}
    name = "model.layers.0.mlp.up_proj.weight"
    for bad, message in (
        ({**good, "extra": torch.zeros(1)}, "unknown extra"),
        ({k: v for k, v in good.items() if k != name}, f"missing {name}"),
        ({**good, name: torch.zeros(3)}, rf"{name}' has shape \(3,\); the model's has \(48, 32\)"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.update_weights(bad.items(), version=9)
    with pytest.raises(ValueError, match="was given twice"):
        engine.update_weights([*good.items(), *good.items()], version=9)
    assert engine.version == 0
    assert all(torch.equal(before[n], w) for n, w in engine._model.named_parameters())


def test_tied_weights_may_come_under_either_name(tmp_path: Path) -> None:
    folder = build_tiny_policy(
        tmp_path, ["the of"], protocol=load_protocol("waymark"), hidden_size=16, num_layers=1, num_heads=2
    )
    engine = load_engine(folder)
    named = dict(engine._model.named_parameters())
    assert "lm_head.weight" not in named
    engine.update_weights(named.items(), version=1)
    as_head = {("lm_head.weight" if k == "model.embed_tokens.weight" else k): v.clone() for k, v in named.items()}
    engine.update_weights(as_head.items(), version=2)
    engine.update_weights(engine._model.state_dict().items(), version=3)
    torn = {**engine._model.state_dict(), "lm_head.weight": torch.zeros_like(named["model.embed_tokens.weight"])}
    with pytest.raises(ValueError, match="is tied to another of these names, but their values differ"):
        engine.update_weights(torn.items(), version=4)
    assert engine.version == 3
    asyncio.run(engine.close())


def test_a_shared_module_keeps_its_mode_and_its_gradients() -> None:
    model = llama().train()
    engine = TransformersEngine(model, TOKENIZER, eos_token_ids=())
    [completion] = sample(engine, PROMPTS[:1], max_new_tokens=4)
    assert model.training
    model(torch.tensor([[*PROMPTS[0], *completion.token_ids]])).logits.sum().backward()
    engine.update_weights(model.named_parameters(), version=1)
    assert engine.version == 1
    asyncio.run(engine.close())


def test_bfloat16_computes_under_autocast_and_stays_close() -> None:
    model = llama()
    engine = TransformersEngine(model, TOKENIZER, dtype="bfloat16", eos_token_ids=())
    [completion] = sample(engine, PROMPTS[:1])
    exact = TransformersEngine(model, TOKENIZER).score([*PROMPTS[0], *completion.token_ids])[len(PROMPTS[0]) :]
    assert max(abs(a - b) for a, b in zip(completion.logprobs, exact, strict=True)) < 0.3
    assert next(model.parameters()).dtype == torch.float32
    asyncio.run(engine.close())


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="schedule is 'lazy'; allowed: deterministic, eager"):
        TransformersEngine(llama(), TOKENIZER, schedule="lazy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dtype is 'int8'; allowed: float32, bfloat16"):
        TransformersEngine(llama(), TOKENIZER, dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_batch is 0"):
        TransformersEngine(llama(), TOKENIZER, max_batch=0)


def test_a_folder_without_a_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no tokenizer \(looked for tokenizer.json.*tokenizer.save_pretrained"):
        load_engine(tmp_path)


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no causal language model could be loaded from"):
        load_engine(tmp_path)
    (tmp_path / "config.json").write_text(llama().config.to_json_string())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="no causal language model could be loaded from"):
        load_engine(tmp_path)
    with pytest.raises(ValueError, match="no tokenizer could be loaded from"):
        load_engine(tmp_path / "missing")


def test_a_folder_loads_and_samples(tmp_path: Path) -> None:
    folder = build_tiny_policy(
        tmp_path, ["the of"], protocol=load_protocol("waymark"), hidden_size=16, num_layers=1, num_heads=2
    )
    engine = load_engine(folder, device="cpu")
    assert engine.context_window == 1024
    assert len(sample(engine, [[5, 6]], max_new_tokens=3)[0].token_ids) == 3
    asyncio.run(engine.close())
