"""A testbed: a fictional world, its index, and a small untrained policy that can read it, in one folder.

Everything that studies a reward or an estimator starts here. The folder is made once and reused by every arm and
seed; a second call with the same settings finds it finished, stage by stage.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from agent.protocols.registry import load_protocol
from agent.tiny import build_tiny_policy
from envs.datasets import read_questions
from envs.policies.expert import ExpertPolicy
from envs.world import WorldSettings, make_world
from retrieval.corpus import read_corpus
from retrieval.index import build_index
from train.changed_settings import refuse_changes
from train.config_file import ConfigError, Section, check_fields


class TinyPolicyConfig(Section):
    """Size of the small policy; the defaults give about 0.8 M parameters."""

    hidden_size: int = Field(128, ge=16, description="Width of the residual stream.")
    num_layers: int = Field(4, ge=1, description="Transformer blocks.")
    num_heads: int = Field(8, ge=1, description="Attention heads; 8 narrow ones learn to copy names sooner than 4.")
    vocab_size: int = Field(2048, ge=300, description="Most tokens; common words come first, bytes are always there.")
    max_position_embeddings: int = Field(1024, ge=64, description="Context window in tokens.")
    initializer_range: float = Field(
        0.08, gt=0, description="Deviation of the random weights; 1 / sqrt(128), because 0.02 learns far slower here."
    )
    seed: int = Field(0, ge=0, description="Seeds the random weights.")


class TestbedConfig(Section):
    """What a testbed is made of."""

    __test__ = False

    world: dict[str, Any] = Field(default_factory=dict, description="`preset` and fields of WorldSettings over it.")
    policy: TinyPolicyConfig = Field(default_factory=TinyPolicyConfig)
    protocol: str = Field("waymark", description="Protocol whose tags become single tokens.")

    def world_settings(self) -> WorldSettings:
        """The world's settings: the preset with the other fields laid over it."""
        fields = dict(self.world)
        return WorldSettings.preset(fields.pop("preset", "tiny"), **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Testbed:
    """Paths of a finished testbed."""

    __test__ = False

    folder: Path

    @property
    def corpus(self) -> Path:
        """The world's passages."""
        return self.folder / "world" / "corpus.jsonl"

    @property
    def index(self) -> Path:
        """The index over them."""
        return self.folder / "index"

    @property
    def policy(self) -> Path:
        """The untrained policy with its tokenizer."""
        return self.folder / "policy"

    def questions(self, split: str) -> Path:
        """The questions of a split: train, dev or test."""
        return self.folder / "world" / f"questions.{split}.jsonl"


def prepare_testbed(config: TestbedConfig, folder: Path, say: Callable[[str], None] = lambda _: None) -> Testbed:
    """Make what is missing of a testbed.

    Raises:
        ConfigError: the folder holds a testbed of other settings.
        ValueError: settings that no world can have; then nothing is written.
    """
    testbed = Testbed(folder=folder)
    world = config.world_settings()
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.model_dump(mode="json")
    written = folder / "testbed.json"
    if written.exists():
        refuse_changes(_recorded(written), settings, f"{folder} holds a testbed of other settings:")
    written.write_text(json.dumps(settings, sort_keys=True), encoding="utf-8")
    if not testbed.corpus.parent.exists():
        say("making the world")
        make_world(world, testbed.corpus.parent)
    if not testbed.index.exists():
        say("building the index")
        build_index(testbed.corpus, testbed.index)
    if not testbed.policy.exists():
        say("making the policy and its tokenizer")
        _make_policy(config, testbed)
    return testbed


def _recorded(written: Path) -> dict[str, Any]:
    """What a testbed was made with; a field that is newer than its file counts with its default."""
    try:
        settings = json.loads(written.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{written} does not say what its testbed was made with: delete {written.parent}") from error
    return check_fields(TestbedConfig, settings, source=str(written)).model_dump(mode="json")


def _make_policy(config: TestbedConfig, testbed: Testbed) -> None:
    world = json.loads((testbed.corpus.parent / "world.json").read_text(encoding="utf-8"))
    questions = read_questions(testbed.questions("train"))
    texts = [passage.contents for passage in read_corpus(testbed.corpus)]
    texts += [text for q in questions for text in (q.text, *q.paraphrases, *(hop.question for hop in q.hops))]
    protocol = load_protocol(config.protocol)
    expert = ExpertPolicy(protocol)
    texts += [text for q in questions for text in expert.spoken(q)]
    unfinished = testbed.folder / ".policy.unfinished"
    build_tiny_policy(
        unfinished,
        texts,
        pieces=world["name_parts"],
        protocol=protocol,
        **config.policy.model_dump(),
    )
    unfinished.rename(testbed.policy)
