"""The plan's arithmetic is what decides how many GPUs are hired: it must be right, and refuse what cannot work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import run_settings
from tests.train.recipe_models import CONFIGS, PARAMETERS, write_model
from train.config import TrainConfig, check_config
from train.config_file import ConfigError
from train.plan import make_plan
from train.plan_inputs import PlanInputs, inputs_found
from train.plan_memory import GIB, engine_memory, in_flight, learner_memory, playing
from train.plan_model import ModelShape, read_shape
from train.plan_placement import bundles, lacking_room, processes
from train.runtime_config import RaySettings
from train.testbed import Testbed

B7 = "Qwen/Qwen2.5-7B"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: write_model(name, root / name.split("/")[1], weights=False) for name in CONFIGS}


@pytest.fixture(scope="module")
def shapes(folders: dict[str, Path]) -> dict[str, ModelShape]:
    return {name: read_shape(folder) for name, folder in folders.items()}


def configured(**changes: Any) -> TrainConfig:
    """A config whose files are not there: a plan needs none of them."""
    settings: dict[str, Any] = {
        "policy": {"model": "m"},
        "data": {"index": "i", "train_questions": "q"},
        "rewards": {"exact_match": {}},
        "evaluate_every": 0,
        "limits": {"max_trajectory_tokens": 4096},
        "learner": {"precision": "bf16", "gradient_checkpointing": True},
        "engine": {"kind": "vllm", "max_model_len": 4096},
    }
    return check_config({**settings, **changes})


def inputs(shape: ModelShape | None, prompts: tuple[int, int] | None = (100, 200)) -> PlanInputs:
    known: dict[str, Any] = {"num_train": 100, "num_dev": 0, "num_passages": 10, "index_bytes": None}
    return PlanInputs(shape=shape, prompt_tokens=prompts, **known)


RAY = {"kind": "ray", "gpu_memory_gb": 79, "engine_gpus": 1, "learner_gpus": 1}


def test_sizes_come_from_the_models_config_alone(shapes: dict[str, ModelShape]) -> None:
    assert {name: shape.parameters for name, shape in shapes.items()} == PARAMETERS
    assert shapes["Qwen/Qwen3-4B"].kv_bytes_per_token(2) == 2 * 36 * 8 * 128 * 2
    assert shapes[B7].kv_bytes_per_token(2) == 57_344 and shapes[B7].window == 131_072


def test_a_learners_state_is_sixteen_bytes_a_weight_and_a_reference_four(shapes: dict[str, ModelShape]) -> None:
    shape = shapes[B7]
    alone = learner_memory(configured(learner={"beta": 0.001}), shape)
    assert alone.weights + alone.gradients + alone.optimiser == 16 * shape.parameters
    assert alone.reference == 4 * shape.parameters and alone.gathered == 0
    sharded = {"beta": 0.001, "trl": {"fsdp": True}}
    four = learner_memory(configured(learner=sharded, runtime={**RAY, "learners": 4}), shape)
    assert four.weights + four.gradients + four.optimiser + four.reference == pytest.approx(5 * shape.parameters)
    assert four.buckets == alone.buckets == 0
    replicated = learner_memory(configured(learner={"beta": 0.001}, runtime={**RAY, "learners": 4}), shape)
    assert replicated.buckets == 4 * shape.parameters, "DDP's buckets are as large as all gradients"
    assert replace(replicated, buckets=0) == alone, "without FSDP every learner holds everything"


@pytest.mark.parametrize(("precision", "each"), [("bf16", 2), ("float32", 4)])
def test_what_fsdp_puts_together_is_a_few_layers_or_a_whole_reference(
    shapes: dict[str, ModelShape], precision: str, each: int
) -> None:
    shape = shapes[B7]
    assert shape.layer_parameters == pytest.approx(233.06e6, rel=1e-3), "the head of its own is no part of a layer"

    def gathered(**changes: Any) -> int:
        learner = {"precision": precision, "trl": {"fsdp": True}, **changes}
        return learner_memory(configured(learner=learner, runtime={**RAY, "learners": 4}), shape).gathered

    assert gathered() == each * (4 * shape.layer_parameters + 152_064 * 3584)
    assert gathered(beta=0.001) == 2 * each * shape.parameters, "TRL shards a reference as one unit"
    assert gathered(beta=0.001, peft={"rank": 8}) == gathered(), "with adapters there is no other model"


def test_adapters_need_neither_gradients_of_all_weights_nor_a_reference(shapes: dict[str, ModelShape]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    shape = shapes["Qwen/Qwen2.5-3B"]
    memory = learner_memory(configured(learner={"beta": 0.01, "peft": {"rank": 16}}), shape)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIGS["Qwen/Qwen2.5-3B"])
        adapted = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert memory.gradients == 4 * trained and memory.optimiser == 8 * trained
    assert memory.weights == 4 * (shape.parameters + trained) and memory.reference == 0


@pytest.mark.parametrize("autocast", [True, False])
def test_activations_are_estimated_near_what_torch_saves(autocast: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 128, "intermediate_size": 352, "num_attention_heads": 4, "num_key_value_heads": 2}
    saved = {}
    for layers in (1, 3):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=64, num_hidden_layers=layers, **sizes))
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, weights: set[int] = weights, kept: dict[int, int] = kept) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights and tensor.numel() % 64 == 0 and 256 in tensor.shape:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast),
        ):
            held = model(input_ids=torch.zeros((1, 256), dtype=torch.long))
        saved[layers] = sum(kept.values())
        del held
    shape = ModelShape(
        parameters=0,
        layers=1,
        hidden=128,
        intermediate=352,
        heads=4,
        kv_heads=2,
        head_dim=32,
        vocabulary=64,
        window=256,
    )
    measured = (saved[3] - saved[1]) / 2 / 256
    assert shape.saved_per_token(autocast=autocast) == pytest.approx(measured, rel=0.4)


def test_a_cache_is_what_weights_leave_of_the_engines_share(shapes: dict[str, ModelShape]) -> None:
    shape = shapes[B7]
    bf16 = {"kind": "vllm", "dtype": "bfloat16", "max_model_len": 4096}
    one = engine_memory(configured(engine=bf16), shape, 79)
    assert one.weights == 2 * shape.parameters
    assert one.cache == int(0.9 * 79 * GIB) - one.weights - 3 * GIB
    assert one.cache_tokens == one.cache // 57_344
    two = engine_memory(configured(engine={**bf16, "tensor_parallel": 2}), shape, 79)
    assert two.weights == shape.parameters and two.cache_tokens is not None and one.cache_tokens is not None
    assert two.cache_tokens > 2 * one.cache_tokens, "two GPUs hold one copy of the weights"
    cpu = engine_memory(configured(engine={**bf16, "kv_cache_gb": 2}), shape, None)
    assert cpu.cache == 2 * GIB


def test_devices_are_dealt_in_order_and_shared_where_they_are_colocated() -> None:
    runtime = {**RAY, "engines": 2, "engine_gpus": 2, "learners": 3, "retrievers": 2, "retriever_gpus": 0.5}
    engine = {"kind": "vllm", "tensor_parallel": 2, "max_model_len": 4096}
    groups = {group.role: group for group in processes(configured(engine=engine, runtime=runtime))}
    assert groups["engine"].devices == ((0, 1), (2, 3))
    assert groups["learner"].devices == ((4,), (5,), (6,))
    assert groups["retriever"].devices == ((7,), (7,)) and groups["worker"].devices == ()
    shared = {**RAY, "layout": "colocated", "engines": 2, "learners": 2, "engine_gpus": 0.5, "learner_gpus": 0.5}
    groups = {group.role: group for group in processes(configured(runtime=shared))}
    assert groups["engine"].devices == groups["learner"].devices == ((0,), (0,))
    whole = {**shared, "engine_gpus": 1, "learner_gpus": 1}
    groups = {group.role: group for group in processes(configured(runtime=whole))}
    assert groups["engine"].devices == groups["learner"].devices == ((0,), (1,))


def test_a_run_that_does_not_fit_is_refused_with_the_settings_to_change(shapes: dict[str, ModelShape]) -> None:
    plan = make_plan(configured(runtime={**RAY, "learners": 4}), inputs(shapes[B7]))
    assert len(plan.problems) == 4 and all("learner.trl: {fsdp: true}" in line for line in plan.problems)
    with pytest.raises(ConfigError, match=r"GPU 1 would hold 1\d\d\.\d GiB .* and has 79"):
        plan.check()
    learner = {"precision": "bf16", "gradient_checkpointing": True, "trl": {"fsdp": True}}
    make_plan(configured(runtime={**RAY, "learners": 4}, learner=learner), inputs(shapes[B7])).check()


def test_a_colocated_engine_must_leave_room_for_the_learners_state(shapes: dict[str, ModelShape]) -> None:
    shared = {**RAY, "layout": "colocated", "engines": 4, "learners": 4}
    learner = {"precision": "bf16", "gradient_checkpointing": True, "trl": {"fsdp": True}}
    full = make_plan(configured(runtime=shared, learner=learner), inputs(shapes[B7]))
    assert "state of learner 0" in full.problems[0] and "lower engine.gpu_memory_fraction" in full.problems[0]
    engine = {"kind": "vllm", "max_model_len": 4096, "gpu_memory_fraction": 0.55}
    make_plan(configured(runtime=shared, learner=learner, engine=engine), inputs(shapes[B7])).check()


def test_a_colocated_engine_that_sleeps_leaves_its_context_on_the_gpu(shapes: dict[str, ModelShape]) -> None:
    """The learner's step is the fullest moment: it fits beside the 3 GiB that a sleeping engine keeps, or does not."""
    step = {"precision": "bf16", "gradient_checkpointing": True, "max_tokens_per_micro_batch": 65_536}
    learner = {**step, "trl": {"fsdp": True}}
    engine = {"kind": "vllm", "max_model_len": 4096, "gpu_memory_fraction": 0.3}
    shared = {**RAY, "layout": "colocated", "engines": 4, "learners": 4}
    stepping = learner_memory(configured(runtime=shared, learner=learner, engine=engine), shapes[B7]).total / GIB + 3

    def problems(gib: float) -> tuple[str, ...]:
        config = configured(runtime={**shared, "gpu_memory_gb": gib}, learner=learner, engine=engine)
        return make_plan(config, inputs(shapes[B7])).problems

    assert "sleeping engine 0 3.0" in problems(stepping + 2.5)[0]
    assert problems(stepping + 3.5) == ()


def test_a_gpu_whose_size_nobody_states_is_assumed_and_said(
    shapes: dict[str, ModelShape], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.plan_fit._memory_here", lambda: None)
    runtime = {key: value for key, value in RAY.items() if key != "gpu_memory_gb"}
    plan = make_plan(configured(runtime={**runtime, "learners": 4}), inputs(shapes[B7]))
    assert plan.problems == () and any("GPU 1 would hold" in line for line in plan.warnings)
    assert any("a GPU is assumed to have 79 GiB; say so with runtime.gpu_memory_gb" in line for line in plan.warnings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"runtime": {**RAY, "engine_gpus": 2}}, "runtime.engine_gpus is 2 and engine.tensor_parallel 1"),
        ({"runtime": {"kind": "ray", "learners": 9}, "rollout": {"questions_per_step": 8}}, "groups stay whole"),
        ({"engine": {"kind": "vllm", "kv_cache_gb": 0.01}}, "raise engine.gpu_memory_fraction"),
    ],
)
def test_settings_that_cannot_work_together_are_problems(
    shapes: dict[str, ModelShape], changes: dict[str, Any], says: str
) -> None:
    assert any(says in line for line in make_plan(configured(**changes), inputs(shapes[B7])).problems)


def test_vllm_on_a_cpu_is_refused_for_heads_that_it_has_no_kernels_for() -> None:
    narrow = ModelShape(
        parameters=1, layers=1, hidden=64, intermediate=64, heads=4, kv_heads=4, head_dim=16, vocabulary=64, window=4096
    )
    plan = make_plan(configured(runtime={"kind": "ray"}), inputs(narrow))
    assert any("16 wide" in line and "engine: transformers" in line for line in plan.problems)


def test_token_budgets_and_batches_are_spelled_out(shapes: dict[str, ModelShape]) -> None:
    limits = {"max_turns": 4, "max_new_tokens_per_turn": 500, "max_observation_tokens": 500}
    rollout = {"questions_per_step": 10, "samples_per_question": 8, "max_staleness": 1}
    learner = {"importance_weight_cap": 2.0, "max_tokens_per_micro_batch": 8192, "trl": {"fsdp": True}}
    runtime = {**RAY, "learners": 4, "engines": 2, "workers": 2, "episodes_per_worker": 30}
    config = configured(limits=limits, rollout=rollout, learner=learner, runtime=runtime)
    assert (in_flight(config), playing(config)) == (160, 60)
    plan = make_plan(config, inputs(shapes[B7], prompts=(100, 700)))
    text = plan.text
    assert "10 questions x 8 samples = 80 trajectories a step" in text
    assert "4 ranks of at most 24 rows; at most 327,680 tokens a step, in at most 12 micro-batches a rank" in text
    assert "the longest episode 700 + 4 x 500 + 3 x 500 = 4,200" in text
    assert "at most 160 trajectories begun and not yet learned from, 60 played at once" in text
    assert any("the longest episode has 4,200 tokens" in line for line in plan.warnings)
    assert any("2 workers of 30 episodes play 60 of a step's 80 trajectories" in line for line in plan.warnings)


def test_room_is_counted_node_by_node() -> None:
    runtime = {"kind": "ray", "engines": 2, "engine_cpus": 3, "workers": 2, "worker_cpus": 1}
    config = configured(runtime=runtime)
    assert sum(bundle["CPU"] for bundle in bundles(config)) == 8
    assert lacking_room(config, [{"CPU": 4.0}, {"CPU": 4.0}]) is None
    problem = lacking_room(config, [{"CPU": 2.0}] * 4)
    assert problem is not None, "eight CPUs, but no node takes an engine"
    assert "asks for 8 CPU and 0 GPU (2 engines of 3 CPU, 2 workers of 1 CPU)" in problem
    assert "the cluster has 8 CPU and 0 GPU (nodes 1: 2 CPU, 0 GPU; 2: 2 CPU" in problem


def test_what_is_not_here_is_listed_and_the_rest_is_planned(folders: dict[str, Path], testbed: Testbed) -> None:
    settings = run_settings(testbed)
    settings["policy"] = {"model": str(folders["Qwen/Qwen2.5-3B"])}
    settings["data"]["index"] = "nowhere/index"
    found = inputs_found(check_config(settings))
    assert [line.split(":")[0] for line in found.missing] == ["policy.model's weights", "data.index"]
    text = make_plan(check_config(settings), found).text
    assert "3,085.9 M parameters" in text and "index        nowhere/index: not known here" in text
    assert "missing      data.index: no index at nowhere/index" in text
    settings["policy"] = {"model": "nobody/such-a-model"}
    [model, index] = inputs_found(check_config(settings)).missing
    assert "nobody/such-a-model" in model and "id of a model on the hub" in model and index.startswith("data.index")


def test_a_local_run_and_one_on_ray_name_the_same_batch(testbed: Testbed) -> None:
    local, ray = (check_config(run_settings(testbed, runtime=kind)) for kind in ("local", "ray"))
    plans = [make_plan(config, inputs_found(config)).text.splitlines() for config in (local, ray)]
    assert isinstance(ray.runtime, RaySettings)
    batches = [next(line for line in plan if line.startswith("batch")) for plan in plans]
    assert batches[0] == batches[1]
    assert any("engine and learner take turns" in line for line in plans[0])
    assert any("worker 0 to 1" in line for line in plans[1])
