"""The shipped recipes are opened as the verbs open them, and the quickstart's world is the one that it promises to be.

A recipe's own testbed would take minutes for some, so every arm is assembled on the quickstart's, which takes seconds.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.engines.opening import VLLMSpec
from agent.hugging_face import load_tokenizer
from agent.protocol import encode_prompt
from agent.protocols.registry import load_protocol
from envs.datasets import read_questions
from envs.question import Question
from envs.world_measures import WorldMeasures, measure_world
from retrieval.corpus import read_corpus
from retrieval.passage import Passage
from tests.conftest import REPOSITORY
from tests.train.recipe_models import write_model
from train.assembly import assemble
from train.config import TrainConfig, load_config
from train.config_file import read_mapping
from train.plan import Plan, make_plan
from train.plan_inputs import inputs_of
from train.plan_memory import GIB, learner_memory, playing
from train.plan_model import read_shape
from train.plan_placement import lacking_room, processes
from train.quickstart import EASY_ABOVE, EM_THRESHOLD, default_study_path
from train.runtime_config import RaySettings
from train.study import Study, load_study
from train.testbed import Testbed, prepare_testbed

CONFIGS = REPOSITORY / "configs"
PARTS_OF_A_COMPARISON = ("ablation", "candidates", "methods")  # tests/train/test_method.py opens those
RECIPES = {
    str(path.relative_to(CONFIGS)): path
    for path in sorted(CONFIGS.rglob("*.yaml"))
    if path.parent.name not in PARTS_OF_A_COMPARISON
}
STUDIES = [name for name, path in RECIPES.items() if "testbed" in read_mapping(path)]
RUNS = [name for name in RECIPES if name not in STUDIES]
ON_EIGHT_GPUS = ("search_r1_qwen2.5_3b.yaml", "search_r1_qwen2.5_7b.yaml", "qwen3_4b_hermes.yaml")
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def quickstart_testbed(tmp_path_factory: pytest.TempPathFactory) -> Testbed:
    """World, index and untrained policy of the quickstart, without a byte of training."""
    return prepare_testbed(load_study(default_study_path()).testbed, tmp_path_factory.mktemp("quickstart") / "testbed")


@pytest.fixture(scope="module")
def passages(quickstart_testbed: Testbed) -> list[Passage]:
    return list(read_corpus(quickstart_testbed.corpus))


@pytest.fixture(scope="module")
def questions(quickstart_testbed: Testbed) -> dict[str, list[Question]]:
    return {split: read_questions(quickstart_testbed.questions(split)) for split in SPLITS}


def on(testbed: Testbed, config: TrainConfig) -> TrainConfig:
    """The config with another testbed's files, of which the small splits are enough to check the rest."""
    data = config.data.model_copy(
        update={
            "index": testbed.index,
            "train_questions": testbed.questions("dev"),
            "dev_questions": testbed.questions("test"),
        }
    )
    policy = config.policy.model_copy(update={"model": str(testbed.policy)})
    return config.model_copy(update={"data": data, "policy": policy})


def test_the_recipes_are_the_ones_that_are_checked_here() -> None:
    assert {"quickstart.yaml", "claims/credit_2hops.yaml", "claims/credit_3hops.yaml"} <= set(STUDIES)
    assert set(RUNS) == {"laptop.yaml", *ON_EIGHT_GPUS}
    assert default_study_path().read_bytes() == RECIPES["quickstart.yaml"].read_bytes()


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_of_a_study_is_a_run_that_can_start(name: str, quickstart_testbed: Testbed, tmp_path: Path) -> None:
    config = load_study(RECIPES[name])
    assert config.testbed.world_settings().num_questions("test") >= config.test_limit
    study = Study(config, tmp_path / "study")
    base = study.base_config()
    assert base.cold_start is not None, "the arms of a study share a cold start"
    arms = {(arm, seed): study.arm_config(arm, seed) for arm in config.arms for seed in config.seeds}
    assert {arm.cold_start for arm in arms.values()} == {None}
    assert len({arm.trajectories_per_step * arm.steps for arm in arms.values()}) == 1, "equal numbers of trajectories"
    firsts = [arm for (_, seed), arm in arms.items() if seed == config.seeds[0]]
    for run in (base, *firsts):
        parts = assemble(on(quickstart_testbed, run))
        assert parts.warnings == () and set(parts.rewards.weights) == set(run.rewards)
        parts.index.close()
    assert not (tmp_path / "study").exists(), "nothing was made"


def test_the_laptops_run_needs_what_the_quickstart_leaves_and_can_start(quickstart_testbed: Testbed) -> None:
    name = "laptop.yaml"
    config = load_config(RECIPES[name])
    left = Testbed(folder=Path("runs/quickstart/testbed"))
    named: tuple[Any, ...] = (config.policy.model, str(config.data.index), config.data.train_questions)
    assert named == (str(left.policy), str(left.index), left.questions("train"))
    assert config.data.dev_questions == left.questions("dev")
    moved = {"policy.model": left.policy, "data.index": left.index}
    moved |= {f"data.{split}_questions": left.questions(split) for split in ("train", "dev")}
    here = [f"{field}={quickstart_testbed.folder / path.relative_to(left.folder)}" for field, path in moved.items()]
    parts = assemble(load_config(RECIPES[name], here))
    assert len(parts.train_questions) == 2500 and parts.warnings == ()
    parts.index.close()


@pytest.fixture(scope="module")
def planned(
    quickstart_testbed: Testbed, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[TrainConfig, Plan]]:
    """Config and plan of each recipe for 8 GPUs, whole, with its model's real sizes and the quickstart's world."""
    models = tmp_path_factory.mktemp("models")
    plans = {}
    for name in ON_EIGHT_GPUS:
        wanted = load_config(RECIPES[name]).policy.model
        folder = models / wanted.split("/")[1]
        if not folder.exists():
            write_model(wanted, folder, weights=True)
        here = [f"policy.model={folder}", f"data.index={quickstart_testbed.index}"]
        here += [f"data.{split}_questions={quickstart_testbed.questions(split)}" for split in ("train", "dev")]
        config = load_config(RECIPES[name], here)
        with assemble(config) as parts:
            plans[name] = (config, make_plan(config, inputs_of(config, parts)))
    return plans


@pytest.mark.parametrize("name", ON_EIGHT_GPUS)
def test_a_recipe_for_eight_gpus_is_whole_and_fits_them(
    name: str, planned: dict[str, tuple[TrainConfig, Plan]]
) -> None:
    config, plan = planned[name]
    plan.check()
    assert plan.warnings == () and plan.missing == ()
    assert isinstance(config.runtime, RaySettings) and isinstance(config.engine, VLLMSpec)
    devices = [device for group in processes(config) for own in group.devices for device in own]
    assert sorted(devices) == list(range(8)), "each GPU has one process"
    assert lacking_room(config, [{"CPU": 64.0, "GPU": 8.0}]) is None
    assert lacking_room(config, [{"CPU": 64.0, "GPU": 7.0}]) is not None
    limits = config.limits
    needed = limits.max_turns * limits.max_new_tokens_per_turn + (limits.max_turns - 1) * limits.max_observation_tokens
    assert needed < limits.max_trajectory_tokens == config.engine.max_model_len
    assert config.learner.max_tokens_per_micro_batch % limits.max_trajectory_tokens == 0, "no padding of whole rows"
    assert config.rollout.questions_per_step % config.runtime.learners == 0, "ranks get equally many groups"
    assert playing(config) == config.rollout.max_concurrent_episodes, "workers take as many episodes as may run"


def test_the_search_r1_recipes_are_its_published_setup(planned: dict[str, tuple[TrainConfig, Plan]]) -> None:
    for name in ON_EIGHT_GPUS[:2]:
        config, plan = planned[name]
        assert (config.rollout.questions_per_step, config.rollout.samples_per_question) == (512, 5)
        assert (config.learner.learning_rate, config.learner.beta, config.learner.warmup_steps) == (1e-6, 1e-3, 286)
        assert (config.steps, config.rollout.temperature, config.limits.top_k) == (1005, 1.0, 3)
        assert (config.limits.max_new_tokens_per_turn, config.limits.max_observation_tokens) == (500, 500)
        assert (config.protocol.name, set(config.rewards), config.credit.estimator) == (
            "search_r1",
            {"exact_match"},
            "outcome",
        )
        assert "512 questions x 5 samples = 2560 trajectories a step" in plan.text
        assert (
            "4 ranks of at most 640 rows; at most 10,485,760 tokens a step, in at most 160 micro-batches" in plan.text
        )


def test_the_recipes_say_how_large_a_checkpoint_is() -> None:
    """Weights once, and Adam's two moments, in float32."""
    for name, weights in (("3b", 3_085_938_688), ("7b", 7_615_616_512)):
        text = RECIPES[f"search_r1_qwen2.5_{name}.yaml"].read_text(encoding="utf-8")
        assert f"about {12 * weights / 1e9:.0f} GB each" in text


def test_the_7b_recipes_memory_is_what_arithmetic_says(planned: dict[str, tuple[TrainConfig, Plan]]) -> None:
    config, plan = planned["search_r1_qwen2.5_7b.yaml"]
    weights = 7_615_616_512
    divided = 20 * weights / 4 / GIB  # weights, gradients and Adam's moments 16 bytes each, the reference 4
    line = next(line for line in plan.lines if line.startswith("memory       learner"))
    parts = [float(part) for part in re.findall(r"(?:weights|gradients|optimiser|reference) ([\d.]+)", line)]
    assert sum(parts) == pytest.approx(divided, abs=0.3) and "of 79" in line
    cache = int(0.9 * 79 * GIB) - 2 * weights - 3 * GIB
    assert f"keys and values of {cache // 57_344:,} tokens, {cache // 57_344 // 4096} whole trajectories" in plan.text
    assert f"weights on their way to the engines {4 * weights / GIB:.1f} GiB" in plan.text
    whole = config.model_copy(update={"learner": config.learner.model_copy(update={"trl": {}})})
    shape = read_shape(whole.policy.model)
    assert learner_memory(whole, shape).total > 120 * GIB, "without FSDP it would not fit"


def test_the_quickstart_has_the_promised_arms_and_depth(tmp_path: Path) -> None:
    study = Study(load_study(default_study_path()), tmp_path / "study")
    arms = {arm: study.arm_config(arm, 0) for arm in study.config.arms}
    assert {name: arm.credit.estimator for name, arm in arms.items()} == {"outcome": "outcome", "turn": "turn"}
    assert set(arms["outcome"].rewards) == {"exact_match"}
    assert set(arms["turn"].rewards) == {"exact_match", "hop_relevance"}
    assert {(arm.limits.top_k, arm.protocol.name) for arm in arms.values()} == {(2, "waymark")}


def test_the_quickstart_fails_where_its_world_is_too_easy() -> None:
    assert EASY_ABOVE == {"cold_start": 0.10, "closed_book": 0.05, "random_retriever": 0.05, "single_search": 0.25}
    assert EM_THRESHOLD == 0.8


def test_the_quickstarts_observations_and_prompts_are_short(
    quickstart_testbed: Testbed, passages: list[Passage], questions: dict[str, list[Question]]
) -> None:
    tokenizer, protocol = load_tokenizer(str(quickstart_testbed.policy)), load_protocol("waymark")
    lengths = [len(tokenizer.encode(passage.contents, add_special_tokens=False)) for passage in passages]
    assert len(passages) == 2000 and max(lengths) < 60, "title and text"
    texts = [text for of in questions.values() for question in of for text in (question.text, *question.paraphrases)]
    assert max(len(encode_prompt(protocol, text, tokenizer)) for text in texts) < 40


def test_the_quickstarts_world_is_broad(quickstart_testbed: Testbed, passages: list[Passage]) -> None:
    world = json.loads((quickstart_testbed.corpus.parent / "world.json").read_text(encoding="utf-8"))
    made = {passage.id.rsplit("-", 1)[0] for passage in passages if not passage.id.startswith("record-")}
    assert made == set(world["counts"]["entities"]) and len(made) >= 8
    assert len(world["relations"]) >= 14
    assert min(len(relation["statements"]) for relation in world["relations"].values()) >= 4


@pytest.mark.parametrize("split", SPLITS)
def test_the_quickstarts_paraphrases_differ_and_find_alike_but_not_the_same(
    split: str, passages: list[Passage], questions: dict[str, list[Question]]
) -> None:
    measures: WorldMeasures = measure_world(passages, questions[split])
    assert min(len(set(question.paraphrases)) for question in questions[split]) >= 4
    assert measures.paraphrase_word_jaccard <= 0.5
    assert 0.3 <= measures.paraphrase_top5_overlap <= 0.8
    assert 0.3 <= measures.paraphrase_top5_jaccard <= 0.8
    assert measures.single_search_recall_at_2 <= 0.05 and measures.hop_recall_at_2 >= 0.95, "one search is not enough"
