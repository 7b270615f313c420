from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.question import Hop, Question
from rewards.rubric import Claim, connected, rubric_of_hops
from tests.envs.small_world import COMPARISON
from tests.rewards.builders import QUESTION


def reached_by_matrix_power(claims, supported, joined, start: int) -> list[bool]:
    """Reachability as powers of the adjacency matrix of entities, then of claims."""
    num = 1 + max([start, *joined, *(e for c in claims for e in c)])
    near = np.eye(num, dtype=int)
    for claim, holds in zip(claims, supported, strict=True):
        for a in claim:
            for b in claim:
                near[a, b] |= holds
    for a in joined:
        for b in joined:
            near[a, b] = 1
    far = (np.linalg.matrix_power(near, num) > 0)[start]
    return [bool(holds and any(far[e] for e in claim)) for claim, holds in zip(claims, supported, strict=True)]


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 6), max_size=3), st.booleans()), max_size=8), st.sets(st.integers(0, 6))
)
def test_the_search_equals_brute_force_reachability(graph, joined) -> None:
    claims, supported = [c for c, _ in graph], [s for _, s in graph]
    assert connected(claims, supported, joined) == reached_by_matrix_power(claims, supported, joined, 0)


def test_a_claim_that_is_not_supported_cuts_off_what_lies_behind_it() -> None:
    chain = [{1}, {1, 2}, {2, 0}]
    assert connected(chain, [True, True, True]) == [True, True, True]
    assert connected(chain, [True, False, True]) == [False, False, True]
    assert connected(chain, [True, True, False]) == [False, False, False]


def test_the_claims_of_a_chain_lead_to_the_answer() -> None:
    rubric = rubric_of_hops(QUESTION)
    assert rubric is not None
    assert [c.text for c in rubric.claims] == ["Lomira founder <E1>", "<E1> grew up in <E0>"]
    assert [c.mentions for c in rubric.claims] == [("Lomira",), ()]
    assert rubric.aliases == {0: ("Oskel",), 1: ("Tavo Rinsel",)}
    assert [c.supporting_id for c in rubric.claims] == ["a", "b"] and not rubric.joined


def test_sub_questions_with_references_serve_where_there_are_no_triples() -> None:
    rubric = rubric_of_hops(
        replace(QUESTION, hops=tuple(replace(h, triple=None, depends_on=()) for h in QUESTION.hops))
    )
    assert rubric is not None
    assert [c.text for c in rubric.claims] == ["Who founded Lomira? <E1>", "In which town did <E1> grow up? <E0>"]
    assert [sorted(c.entities) for c in rubric.claims] == [[1], [0, 1]]


def test_evidence_steps_are_read_as_triples() -> None:
    """2WikiMultihopQA's form: the second subject is the first answer, with nothing that says so."""
    question = Question(
        id="w",
        text="Where did the mother of Elisabeth of Cleves die?",
        golden_answers=("Kalkar",),
        hops=(
            Hop(question="Elisabeth of Cleves >> mother", answers=("Marie of Burgundy",)),
            Hop(question="Marie of Burgundy >> place of death", answers=("Kalkar",)),
        ),
    )
    rubric = rubric_of_hops(question)
    assert rubric is not None
    assert [c.text for c in rubric.claims] == ["Elisabeth of Cleves mother <E1>", "<E1> place of death <E0>"]


def test_a_step_may_refer_to_two_others() -> None:
    """MuSiQue's form: one reference is the subject, the other stands in the relation."""
    hops = (
        Hop(question="Who wrote it?", answers=("Ann",)),
        Hop(question="Which town is it?", answers=("Oskel",)),
        Hop(question="#1 >> school in #2", answers=("Vann",), depends_on=(0, 1)),
        Hop(question="head of #3 >> name", answers=("Bo",), depends_on=(2,)),
    )
    rubric = rubric_of_hops(Question(id="m", text="?", golden_answers=("Bo",), hops=hops))
    assert rubric is not None
    assert [c.text for c in rubric.claims[2:]] == ["<E1> school in <E2> <E3>", "head of <E3> name <E0>"]
    assert all(c.mentions == () for c in rubric.claims) and not rubric.joined
    assert connected([c.entities for c in rubric.claims], [True] * 4) == [True] * 4


def test_a_comparison_is_joined_with_its_answer() -> None:
    rubric = rubric_of_hops(COMPARISON)
    assert rubric is not None
    assert rubric.joined == {0, 1, 2} and rubric.aliases[1] == ("1204",)
    triples = (("Velmora", "founded_in", "1204"), ("Torvane", "founded_in", "1350"))
    hops = tuple(replace(h, triple=t) for h, t in zip(COMPARISON.hops, triples, strict=True))
    rubric = rubric_of_hops(replace(COMPARISON, hops=hops))
    assert rubric is not None
    assert [c.text for c in rubric.claims] == ["<E0> founded in <E1>", "Torvane founded in <E2>"]


def test_an_intersection_has_one_entity() -> None:
    hops = (
        Hop(question="Who built the mill?", answers=("Ann", "Bo"), triple=("mill", "builder", "Ann")),
        Hop(question="Who led the choir?", answers=("Bo", "Cy"), triple=("choir", "leader", "Bo")),
    )
    rubric = rubric_of_hops(Question(id="i", text="Who did both?", golden_answers=("Bo",), hops=hops))
    assert rubric is not None
    assert [c.text for c in rubric.claims] == ["mill builder <E0>", "choir leader <E0>"]
    assert rubric.aliases == {0: ("Bo",)} and not rubric.joined


def test_ten_hops_are_told_apart() -> None:
    hops = [Hop(question=f"Step {i} of #{i}?" if i else "Step?", answers=(f"n{i}",)) for i in range(12)]
    rubric = rubric_of_hops(Question(id="t", text="?", golden_answers=("n11",), hops=tuple(hops)))
    assert rubric is not None
    assert rubric.claims[11].text == "Step 11 of <E11>? <E0>" and rubric.claims[1].text == "Step 1 of <E1>? <E2>"
    assert connected([c.entities for c in rubric.claims], [True] * 12) == [True] * 12


def test_hops_without_answers_are_no_rubric() -> None:
    assert rubric_of_hops(replace(QUESTION, hops=())) is None
    assert rubric_of_hops(replace(QUESTION, hops=(QUESTION.hops[0], replace(QUESTION.hops[1], answers=())))) is None


def test_a_claim_is_filled_with_names() -> None:
    claim = Claim(text="<E1> grew up in <E0>, said <E1>")
    assert claim.filled({0: "Oskel", 1: "Tavo"}) == "Tavo grew up in Oskel, said Tavo"
    with pytest.raises(KeyError):
        claim.filled({0: "Oskel"})
