"""Invented words fall apart in one way, and permutations can be undone: names are unique however many there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.world_facts import TYPES
from envs.world_names import FIRST_PARTS, INNER_PARTS, Names, Permutation, count_tokens, split_word

words = st.tuples(st.sampled_from(FIRST_PARTS), st.lists(st.sampled_from(INNER_PARTS), min_size=1, max_size=2))


@given(words)
def test_a_word_is_spelled_by_its_own_parts_only(parts: tuple[str, list[str]]) -> None:
    first, inner = parts
    assert split_word(first + "".join(inner)) == (first, *inner)


@pytest.mark.parametrize("parts", [FIRST_PARTS, INNER_PARTS])
def test_no_part_begins_another(parts: tuple[str, ...]) -> None:
    assert not [(a, b) for a in parts for b in parts if a != b and b.startswith(a)]


def test_common_words_are_not_invented_ones() -> None:
    assert [split_word(word) for word in ("Institute", "Where", "the", "Vel", "kor", "Velkors")] == [None] * 6


@given(st.integers(1, 10**6), st.integers(0, 2**64 - 1), st.data())
def test_permutation_is_undone_by_index_of(size: int, key: int, data: st.DataObject) -> None:
    permutation = Permutation(size, key)
    index = data.draw(st.integers(0, size - 1))
    assert 0 <= permutation[index] < size
    assert permutation.index_of(permutation[index]) == index


@pytest.mark.parametrize("size", [1, 7, 600, 2_000])
def test_all_names_and_aliases_of_a_world_differ(size: int) -> None:
    names = Names(TYPES, {kind.name: size for kind in TYPES}, key=3)
    written = [
        text
        for kind in TYPES
        for index in range(size)
        for text in (names.name(kind.name, index), *names.aliases(kind.name, index))
    ]
    assert len(set(written)) == len(written) == 2 * size * len(TYPES)
    assert max(count_tokens(names.name(kind.name, index)) for kind in TYPES for index in range(min(size, 600))) <= 6


def test_more_entities_than_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"more than the syllables have names for .* lower num_passages"):
        Names(TYPES, {kind.name: 10**7 for kind in TYPES}, key=0)


def test_tokens_are_words_marks_and_syllables() -> None:
    assert count_tokens("Who founded Velkor Institute in 1842?") == 8
