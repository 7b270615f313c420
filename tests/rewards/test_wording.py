import pytest

from rewards.wording import all_words, content_words, jaccard, key_words, mentions, name_stems, named_in, recall


@pytest.mark.parametrize(
    ("text", "phrases", "said"),
    [
        ("He grew up in Oskel.", ["Oskel"], True),
        ("He grew up in the OSKEL", ["oskel"], True),
        ("Oskeltown", ["Oskel"], False),
        ("It often rains", ["ten"], False),
        ("The U.S. coast", ["US"], True),
        ("a town", ["city", "town"], True),
        ("a town", ["", "the", "..."], False),
        ("", ["town"], False),
        ("New York City", ["York City"], True),
    ],
)
def test_mentions_are_whole_normalised_words(text: str, phrases: list[str], said: bool) -> None:
    assert mentions(text, phrases) is said


def test_content_words_are_stems_without_function_words() -> None:
    assert content_words("Which green bridges?") == content_words("a bridge of green")
    assert content_words("of the and it") == frozenset()
    assert all_words("Rivers of the town, rivers") == {"rivers", "of", "the", "town"}


def test_key_words_are_names_and_numbers_or_else_content_words() -> None:
    assert key_words("In which town did Tavo Rinsel live in 1812?") == {*name_stems("by Tavo Rinsel"), "1812"}
    assert key_words("who founded lomira") == content_words("founded lomira")
    assert name_stems("the founder of Lomira") == content_words("Lomira")
    assert key_words("") == frozenset()


def test_shares() -> None:
    assert recall({"a", "b"}, {"b", "c"}) == 0.5 and recall(set(), {"a"}) == 0.0
    assert jaccard({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3) and jaccard(set(), set()) == 0.0


def test_names_are_whole_words_normalised() -> None:
    assert named_in("Born in the Port of Galzim, 1204.", ("galzim",)) == "galzim"
    assert named_in("He went to Annapolis.", ("Ann",)) is None
    assert named_in("Anything", ("", "the")) is None
    assert named_in("T. Rinsel came", ("Tavo Rinsel", "T Rinsel")) == "T Rinsel"
