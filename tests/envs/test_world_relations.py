"""A world of chosen relations: nothing else is stated or asked, and a choice that leads nowhere is refused."""

import json
from pathlib import Path

import pytest

from envs.datasets import check_supports, read_questions
from envs.world import WorldSettings, make_world
from envs.world_facts import RELATIONS, WorldFacts, chosen_relations
from envs.world_questions import WorldQuestions
from retrieval.corpus import read_corpus

FEW = ("birthplace", "employer", "mayor", "population", "owner", "headquarters")


def test_only_the_chosen_relations_are_stated_and_asked(tmp_path: Path) -> None:
    settings = WorldSettings.preset(
        "tiny", hops=[2, 3], relations=FEW, train_questions=40, dev_questions=10, test_questions=10
    )
    make_world(settings, tmp_path / "world")
    described = json.loads((tmp_path / "world" / "world.json").read_text())
    assert tuple(described["relations"]) == tuple(r.name for r in RELATIONS if r.name in FEW)
    assert described["counts"]["relations"] == len(FEW)
    assert described["counts"]["entity_types"] == 3
    passages = {passage.id for passage in read_corpus(tmp_path / "world" / "corpus.jsonl")}
    assert len(passages) == settings.num_passages
    assert {id_.split("-")[0] for id_ in passages} == {"person", "town", "company", "record"}
    questions = read_questions(tmp_path / "world" / "questions.train.jsonl")
    assert len(questions) == 80 and not check_supports(questions, passages.__contains__).missing
    facts = WorldFacts(settings)
    stated = {relation.name for kind in facts.types for relation in facts.relations_of[kind.name]}
    assert stated == set(FEW)


def test_naming_every_relation_changes_nothing() -> None:
    every = tuple(relation.name for relation in RELATIONS)
    assert chosen_relations(every) == chosen_relations(()) == RELATIONS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("birthplace", "shoe_size"), "no relation is named shoe_size; relations: birthplace, mentor"),
        (("birthplace",), "relation birthplace leads to a town, and no chosen relation says anything about one"),
        (("members", "patron"), "leads to a person.*add one of birthplace, mentor"),
    ],
)
def test_a_choice_that_leads_nowhere_is_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldFacts(WorldSettings.preset("tiny", relations=names))


@pytest.mark.parametrize(
    ("kind", "names"),
    [("intersection", FEW), ("comparison", ("birthplace", "mayor")), ("bridge", ("birth_date",))],
)
def test_kinds_that_the_relations_do_not_allow_are_refused(kind: str, names: tuple[str, ...]) -> None:
    settings = WorldSettings.preset("tiny", relations=names, kinds=kind)
    with pytest.raises(ValueError, match=f"the chosen relations allow no {kind} questions"):
        WorldQuestions(WorldFacts(settings))
