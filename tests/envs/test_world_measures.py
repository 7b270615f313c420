"""Measures of a world: small cases worked out by hand, and the description that shows them."""

from pathlib import Path

import pytest

from envs.question import Hop, Question
from envs.world import WorldSettings, make_world
from envs.world_description import describe_world, measure_files
from envs.world_measures import content_words, measure_world
from retrieval.passage import Passage


def test_content_words_leave_out_names_and_function_words() -> None:
    assert content_words("Who founded the Velkor Institute in 1842?") == {"founded"}
    assert content_words("Velkor Institute was founded") == {"founded"}


def test_measures_of_a_world_of_six_passages() -> None:
    texts = ["Velkor Mill was built by Tamrik Dovnak.", "Tamrik Dovnak was born in Port Galzim.", *(["Nothing."] * 4)]
    titles = ["Velkor Mill", "Tamrik Dovnak", "A", "B", "C", "D"]
    passages = [Passage(id=str(i), title=t, text=x) for i, (t, x) in enumerate(zip(titles, texts, strict=True))]
    hops = (
        Hop(question="Who built Velkor Mill?", answers=("Tamrik Dovnak",), supporting_id="0"),
        Hop(question="Where was #1 born?", answers=("Port Galzim",), supporting_id="1", depends_on=(0,)),
    )
    question = Question(
        id="q",
        text="Where was the builder of Velkor Mill raised?",
        golden_answers=("Port Galzim",),
        kind="bridge",
        supporting_ids=("0", "1"),
        hops=hops,
        paraphrases=("Where was the builder of Velkor Mill brought up?",),
    )
    measures = measure_world(passages, [question])
    assert measures.hop_recall_at_2 == 1
    assert measures.passage_tokens_max == 10
    assert measures.question_tokens_max == {"bridge 2 hops": 10}
    assert measures.paraphrase_word_jaccard == pytest.approx(1 / 4)  # builder of builder, raised, brought, up
    assert {"single_search_recall@2", "hop_recall@2"} <= set(measures.figures())


def test_the_description_shows_three_examples_with_their_evidence(tmp_path: Path) -> None:
    settings = WorldSettings.preset("tiny", train_questions=9, dev_questions=9, test_questions=9)
    summary = make_world(settings, tmp_path / "w")
    text = describe_world(summary, measure_files(tmp_path / "w"))
    examples = [line for line in text.splitlines() if "hops: " in line and line[0] != " "]
    assert len(examples) == 3
    assert len({line.split(",")[0] for line in examples}) == 3, "one of each kind"
    assert text.count("  #2 ") == 3 and text.count("  answer: ") == 3
    assert "single_search_recall@2" in text and "43 relations" in text


def test_a_folder_without_questions_says_so(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"id": "1", "title": "a", "text": "b"}\n')
    with pytest.raises(FileNotFoundError, match="has no question file with a question; make the world again"):
        measure_files(tmp_path)
