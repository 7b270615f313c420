"""A corpus of ten passages with a real index over it, two questions on it, and a tokenizer that can spell them."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from agent.protocol import AgentProtocol
from agent.protocols.registry import load_protocol
from agent.tiny import build_tokenizer
from envs.datasets import read_questions
from envs.question import Question
from envs.search_env import EpisodeLimits
from evaluation.job import EvaluationJob
from retrieval.index import build_index

CAPITALS = {
    "Oslo": ("Norway", "Harald"),
    "Stockholm": ("Sweden", "Carl"),
    "Copenhagen": ("Denmark", "Frederik"),
    "Madrid": ("Spain", "Felipe"),
    "Brussels": ("Belgium", "Philippe"),
}


@dataclass(frozen=True)
class SmallWorld:
    corpus: Path
    index: Path
    questions_file: Path
    questions: list[Question]
    tokenizer: PreTrainedTokenizerBase
    protocol: AgentProtocol


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    folder = tmp_path_factory.mktemp("small_world")
    passages, questions = [], []
    for city, (country, king) in CAPITALS.items():
        passages.append({"id": f"c-{city}", "title": city, "text": f"{city} is the capital of {country}."})
        passages.append({"id": f"k-{country}", "title": country, "text": f"The king of {country} is {king}."})
        questions.append(
            {
                "id": f"q-{city}",
                "question": f"Who is the king of the country whose capital is {city}?",
                "golden_answers": [king],
                "supporting_ids": [f"c-{city}", f"k-{country}"],
                "decomposition": [
                    {"question": f"{city} capital of", "answer": country, "supporting_id": f"c-{city}"},
                    {"question": "Who is the king of #1?", "answer": king, "supporting_id": f"k-{country}"},
                ],
            }
        )
    corpus, questions_file = folder / "corpus.jsonl", folder / "questions.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in passages))
    questions_file.write_text("".join(json.dumps(row) + "\n" for row in questions))
    build_index(corpus, folder / "index")
    protocol = load_protocol("waymark")
    texts = [f"{row['title']} {row['text']}" for row in passages] + [row["question"] for row in questions]
    return SmallWorld(
        corpus=corpus,
        index=folder / "index",
        questions_file=questions_file,
        questions=read_questions(questions_file),
        tokenizer=build_tokenizer(texts, tags=protocol.tags, vocab_size=1024),
        protocol=protocol,
    )


@pytest.fixture
def job(small_world: SmallWorld, tmp_path: Path) -> EvaluationJob:
    """The scripted expert over the small world's questions."""
    return EvaluationJob(
        policy="scripted:expert",
        index=small_world.index,
        questions=small_world.questions_file,
        out=tmp_path / "out",
        limits=EpisodeLimits(top_k=2, max_new_tokens_per_turn=60, max_trajectory_tokens=700),
        outage_pause_s=0.0,
    )
