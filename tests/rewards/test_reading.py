from dataclasses import replace

import pytest

from agent.trajectory import Shown
from retrieval.passage import Passage
from rewards.reading import answers_of, contexts_of, is_found, observed_turns, read_passages, read_texts
from rewards.wording import content_words, key_words
from tests.rewards.builders import PASSAGES, QUESTION, answer, context, invalid, search, trajectory

PASSAGE = context().passage


def test_what_was_shown_is_read_and_not_what_was_retrieved() -> None:
    assert [p.id for p in read_passages(search(["b", "x"], hits=["a", "b", "x"]), PASSAGE)] == ["b", "x"]


def test_a_passage_is_read_as_it_came_back_from_the_search() -> None:
    changed = {"a": Passage(id="a", title="Lomira", text="Lomira was founded by nobody.")}
    turn = search(["a"])  # its hits hold the passage itself
    assert read_passages(turn, changed.__getitem__) == [PASSAGES["a"]]
    elsewhere = replace(turn, calls=(), shown=(Shown(number=1, passage_id="a"),))
    assert read_passages(elsewhere, changed.__getitem__) == [changed["a"]]
    with pytest.raises(ValueError, match="'a' was shown"):
        read_passages(elsewhere, {}.__getitem__)


def test_texts_are_read_once_in_the_order_of_their_first_showing() -> None:
    turns = [search(["x", "a"]), invalid(), search(["a", "b"])]
    assert read_texts(turns, PASSAGE) == [PASSAGES[i].contents for i in "xab"]
    assert read_texts([], PASSAGE) == []


def test_the_words_of_a_turns_context_are_those_of_the_question_and_of_all_that_was_shown_before() -> None:
    shown = ["a", "x", "b"]
    episode = trajectory(*(search([i]) for i in shown), answer("Oskel"))
    for t, context_of_turn in enumerate(contexts_of(episode, QUESTION, PASSAGE)):
        texts = [QUESTION.text, *(PASSAGES[i].contents for i in shown[:t])]
        assert context_of_turn.key_words == {word for text in texts for word in key_words(text)}
        assert context_of_turn.content_words == {word for text in texts for word in content_words(text)}
    assert contexts_of(trajectory(finish="token_limit"), QUESTION, PASSAGE) == []


def test_a_hop_is_found_by_its_support_or_else_by_its_answer() -> None:
    first = QUESTION.hops[0]
    assert is_found(first, [PASSAGES["x"], PASSAGES["a"]])
    assert not is_found(first, [PASSAGES["b"]])  # says Tavo Rinsel, and is not the support
    assert is_found(replace(first, supporting_id=None), [PASSAGES["b"]])
    assert not is_found(replace(first, supporting_id=None), [PASSAGES["x"]])
    assert not is_found(first, [])


def test_answers_and_turns_after_an_observation() -> None:
    assert answers_of(QUESTION) == ("Oskel", "Tavo Rinsel")
    assert observed_turns(trajectory(search([]), invalid(), search(["a"]), answer("Oskel"))) == [1, 3]
    assert observed_turns(trajectory(finish="token_limit")) == []
