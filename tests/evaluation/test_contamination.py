"""The check must find what was copied, however it was written, and not cry wolf over templates."""

import gc
import random
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.question import Question
from evaluation.contamination import check_contamination
from evaluation.evaluation_file import read_evaluation
from evaluation.overlap_report import clean_figures, example_lines, overlap_record
from tests.evaluation.evaluations import record, write

LONG = "Who was the first person to cross the northern ice in a boat made of reeds and tar"


class _Text(str):
    """One that a weak reference can point to."""


def question(id: str, text: str, *answers: str, paraphrases: tuple[str, ...] = ()) -> Question:
    return Question(id=id, text=text, golden_answers=answers or ("x",), paraphrases=paraphrases)


def test_a_copy_is_found_whatever_its_case_punctuation_and_articles() -> None:
    found = check_contamination(
        [question("e", "Who founded the city of Oslo?", "Harald")],
        [question("t", "WHO founded city of  oslo", "the Harald!")],
    )
    one = found.contaminated[0]
    assert (one.same_question, one.same_question_and_answer, one.training_id) == (True, True, "t")
    assert found.clean_ids == ()


def test_the_answer_tells_two_equal_questions_apart() -> None:
    found = check_contamination(
        [question("e", "Who won the cup?", "Norway")],
        [question("t1", "Who won the cup?", "Sweden"), question("t2", "Who won the cup?", "Norway")],
    )
    assert found.overlaps[0].same_question_and_answer
    assert found.overlaps[0].training_id == "t2"
    other = check_contamination(
        [question("e", "Who won the cup?", "Norway")], [question("t", "Who won the cup?", "Peru")]
    )
    assert other.overlaps[0].same_question
    assert not other.overlaps[0].same_question_and_answer


def test_paraphrases_count_on_both_sides() -> None:
    asked = question("e", "Something else entirely?", paraphrases=(LONG,))
    for trained in (question("t", LONG), question("t", "Nothing alike here?", paraphrases=(LONG,))):
        found = check_contamination([asked], [trained])
        assert found.overlaps[0].same_question
        assert found.overlaps[0].shared_ngrams == 1.0, "of the wording that shares most"


def test_a_part_is_found_by_its_ngrams_and_shown() -> None:
    asked = question("e", LONG)
    trained = question("t", "Tell me: who was the first person to cross the northern ice in a sledge of iron?")
    found = check_contamination([asked], [question("u", "What is a boat?"), trained], n=5, share=0.3)
    one = found.overlaps[0]
    assert not one.same_question
    assert one.training_id == "t"
    # Of the 15 words left without articles, 11 5-grams; the first 9 words are shared: 5 of them.
    assert one.num_ngrams == 11
    assert one.shared_ngrams == pytest.approx(5 / 11)
    assert one.shared_with_one == one.shared_ngrams
    assert one.example == "who was first person to cross northern ice in"
    assert found.contaminated == (one,)
    assert check_contamination([asked], [trained], n=5, share=0.6).contaminated == ()


def test_parts_from_several_training_questions_are_no_copy_of_one() -> None:
    first, second = "Who was the first person to cross the northern ice", "in a boat made of reeds and tar"
    found = check_contamination([question("e", LONG)], [question("t", first), question("u", second)], n=4)
    one = found.overlaps[0]
    assert one.shared_ngrams == pytest.approx(9 / 12)
    assert one.shared_with_one == pytest.approx(5 / 12)
    assert found.contaminated == ()


def test_what_stands_in_many_training_questions_is_a_template() -> None:
    names = ["Oslo", "Bergen", "Rome", "Paris", "Lima"]
    asked = [question("e", "What is the name of the river that flows through the old town of Cairo?")]
    training = [
        question(name, f"What is the name of the river that flows through the old town of {name}?") for name in names
    ]
    found = check_contamination(asked, training, n=5, max_common=3)
    assert found.overlaps == ()
    assert found.num_common > 0
    assert check_contamination(asked, training, n=5, max_common=5).contaminated


def test_a_short_question_is_compared_as_a_whole() -> None:
    asked = [question("e", "Who is Bach?")]
    longer = question("t", "Who is Bach, and in which city did he play the organ for so many years?")
    found = check_contamination(asked, [longer])
    assert found.overlaps == ()
    assert found.num_too_short == 1
    assert check_contamination(asked, [question("t", "who is bach")]).contaminated


def test_an_id_alone_is_a_sign_and_no_proof() -> None:
    found = check_contamination([question("7", "Who is Bach?")], [question("7", "Where lies Rome?")])
    assert found.overlaps[0].same_id
    assert found.contaminated == ()


def test_an_id_that_stands_twice_is_a_sign_for_both_questions() -> None:
    asked = [question("7", "Who is Bach?"), question("7", "Who is Handel?")]
    found = check_contamination(asked, [question("7", "Where lies Rome?")])
    assert [one.same_id for one in found.overlaps] == [True, True]


def test_training_questions_pass_by_one_at_a_time() -> None:
    """What shares nothing is not kept: training files are larger than evaluations."""
    alive: list[weakref.ref[_Text]] = []

    def training() -> Iterator[Question]:
        for i in range(50):
            text = _Text(f"Entirely different words about number {i}?")
            alive.append(weakref.ref(text))
            yield question(f"t{i}", text)

    found = check_contamination([question("e", LONG)], training())
    assert found.num_training == 50
    gc.collect()
    assert sum(one() is not None for one in alive) <= 1


def test_nothing_in_common_is_nothing_found() -> None:
    found = check_contamination([question("e", LONG)], [question("t", "How many moons does Saturn have in total?")])
    assert found.record()["contaminated"] == 0
    assert found.clean_ids == ("e",)
    assert example_lines(found) == []


def test_a_run_is_measured_with_and_without_the_overlap(tmp_path: Path) -> None:
    file = read_evaluation(write(tmp_path / "a", record([1.0, 1.0, 0.0, 0.0], ids=["a", "b", "c", "d"])))
    asked = [question(id, f"Question of its own, number {id}?") for id in "abcd"]
    found = check_contamination(asked, asked[:2])
    figures = clean_figures(file, found)
    assert (figures["all"], figures["clean"], figures["contaminated"]) == (0.5, 0.0, 1.0)
    assert (figures["clean_n"], figures["contaminated_n"]) == (2, 2)
    assert overlap_record(found)["overlaps"][0]["contaminated"]
    with pytest.raises(ValueError, match="has no figure 'bleu'"):
        clean_figures(file, found, "bleu")
    with pytest.raises(ValueError, match="answers none of the questions"):
        clean_figures(file, check_contamination([question("z", "Other?")], asked))


@pytest.mark.parametrize(
    ("questions", "options", "message"),
    [
        ([], {}, "no evaluation question"),
        ([question("e", "x")], {"n": 0}, "n is 0"),
        ([question("e", "x")], {"share": 0.0}, "share 0"),
        ([question("e", "x")], {"max_common": 0}, "max_common 0"),
    ],
)
def test_bad_input_is_refused(questions: list[Question], options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_contamination(questions, [], **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_ten_thousand_questions_against_a_hundred_thousand_take_seconds() -> None:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(20_000)]

    def made(id: str) -> Question:
        return question(id, " ".join(rng.choice(words) for _ in range(rng.randint(8, 25))))

    training = [made(f"t{i}") for i in range(100_000)]
    asked = [made(f"e{i}") for i in range(9_000)] + [question(f"d{i}", training[i].text) for i in range(1_000)]
    start = time.process_time()
    found = check_contamination(asked, training)
    assert time.process_time() - start < 30
    assert {one.question_id for one in found.contaminated} == {f"d{i}" for i in range(1_000)}
