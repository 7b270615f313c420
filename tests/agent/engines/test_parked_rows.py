import numpy as np

from agent.engines.parked_rows import ParkedRow, episode_of, find_parked


def parked(episode: str, tokens: list[int], version: int = 1) -> ParkedRow:
    return ParkedRow(episode=episode, tokens=np.array(tokens), version=version)


def test_the_episode_is_the_key_before_its_last_slash() -> None:
    assert [episode_of(k) for k in ("q1/s2/0003", "e/0", "alone")] == ["q1/s2", "e", ""]


def test_a_row_is_found_by_its_episode_and_used_once() -> None:
    rows = [parked("a", [1, 2, 3]), parked("b", [1, 2]), parked("a", [1])]
    prompts = [("b/1", np.array([1, 2, 9])), ("a/1", np.array([1, 2, 3, 4])), ("a/2", np.array([1, 2, 3, 4]))]
    assert find_parked(rows, prompts, version=1) == {0: 1, 1: 0}


def test_other_tokens_other_weights_or_nothing_new_find_nothing() -> None:
    rows = [parked("a", [1, 2, 3])]
    assert find_parked(rows, [("a/1", np.array([1, 7, 3, 4]))], version=1) == {}
    assert find_parked(rows, [("a/1", np.array([1, 2, 3, 4]))], version=2) == {}
    assert find_parked(rows, [("a/1", np.array([1, 2, 3]))], version=1) == {}
    assert find_parked(rows, [("c/1", np.array([1, 2, 3, 4]))], version=1) == {}
