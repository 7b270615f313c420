"""The files of a fictional world: read back as anybody would read them, and checked against what they promise."""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from envs.datasets import check_supports, read_questions
from envs.question import Question
from envs.world import WorldSettings, make_world
from envs.world_facts import RELATIONS, TYPES
from envs.world_measures import measure_world
from envs.world_names import split_word
from retrieval.corpus import read_corpus
from retrieval.passage import Passage

SPLITS = ("train", "dev", "test")
MIXTURE = {"train_questions": 300, "dev_questions": 60, "test_questions": 60}
BY_NAME = {relation.name: relation for relation in RELATIONS}


def read_world(path: Path) -> tuple[dict[str, Passage], dict[str, list[Question]]]:
    passages = {passage.id: passage for passage in read_corpus(path / "corpus.jsonl")}
    return passages, {split: read_questions(path / f"questions.{split}.jsonl") for split in SPLITS}


@pytest.fixture(scope="module")
def mixture_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("worlds") / "mixture"
    make_world(WorldSettings.preset("tiny", answer_kinds=("name", "date", "year", "count"), **MIXTURE), path)
    return path


@pytest.fixture(scope="module")
def mixture(mixture_dir: Path) -> tuple[dict[str, Passage], dict[str, list[Question]]]:
    return read_world(mixture_dir)


@pytest.fixture(scope="module")
def two_hops(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Passage], dict[str, list[Question]]]:
    path = tmp_path_factory.mktemp("worlds") / "two"
    start = time.process_time()
    make_world(WorldSettings.preset("tiny", hops=2), path)
    assert time.process_time() - start < 5, "the quickstart waits for this"
    return read_world(path)


def normalised(answer: str) -> str:
    return " ".join(re.findall(r"\w+", answer.lower()))


def mentions(passage: Passage, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", passage.text) is not None


def test_equal_settings_give_equal_files_and_another_seed_another_world(tmp_path: Path) -> None:
    settings = WorldSettings.preset("tiny", **MIXTURE)
    first, again = make_world(settings, tmp_path / "a"), make_world(settings, tmp_path / "b")
    other = make_world(WorldSettings.preset("tiny", seed=1, **MIXTURE), tmp_path / "c")
    assert first.sha256 == again.sha256
    assert not set(first.sha256.values()) & set(other.sha256.values())
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "corpus.jsonl",
        "questions.dev.jsonl",
        "questions.test.jsonl",
        "questions.train.jsonl",
        "world.json",
    ]


def test_tiny_has_the_promised_breadth(two_hops: tuple[dict[str, Passage], dict[str, list[Question]]]) -> None:
    passages, questions = two_hops
    assert len(TYPES) >= 8 and len(RELATIONS) >= 14
    assert {split: len(of) for split, of in questions.items()} == {"train": 3000, "dev": 200, "test": 300}
    assert len(passages) == 2000
    used = {name: set() for name in BY_NAME}
    for passage in passages.values():
        for relation in RELATIONS:
            for wording in relation.statements:
                pattern = re.escape(wording).replace(r"\{s\}", ".*").replace(r"\{o\}", "[A-Z0-9].*")
                if passage.id.startswith(relation.subject) and re.search(pattern, passage.text):
                    used[relation.name].add(wording)
    assert min(map(len, used.values())) >= 4
    paths = Counter(tuple(hop.triple[1] for hop in q.hops if hop.triple) for q in questions["train"])
    assert len(paths) > 60, "relations of a chain vary"


def test_steps_have_the_keys_of_the_real_sets(mixture_dir: Path) -> None:
    rows = [json.loads(line) for line in (mixture_dir / "questions.test.jsonl").read_text().splitlines()]
    for step in (step for row in rows for step in row["decomposition"]):
        assert step.keys() >= {"question", "question_filled", "answer", "supporting_id"}
        assert step["answer"] == step["answers"][0]


def test_every_support_exists_and_states_its_answer(
    mixture: tuple[dict[str, Passage], dict[str, list[Question]]],
) -> None:
    passages, questions = mixture
    for split in SPLITS:
        assert check_supports(questions[split], passages.__contains__).ok
        for question in questions[split]:
            for hop in question.hops:
                support = passages[hop.supporting_id or ""]
                assert hop.triple is not None and support.title == hop.triple[0]
                listed = BY_NAME[hop.triple[1]].is_list
                stated = [mentions(support, answer) for answer in hop.answers]
                assert all(stated) if listed else any(stated), (question.id, hop, support.text)


def test_no_passage_of_a_bridge_gives_another_step_away(
    mixture: tuple[dict[str, Passage], dict[str, list[Question]]],
) -> None:
    passages, questions = mixture
    bridges = [q for split in SPLITS for q in questions[split] if q.kind == "bridge"]
    assert len(bridges) > 300
    for question in bridges:
        chain = [passages[hop.supporting_id or ""] for hop in question.hops]
        names = [passage.title for passage in chain]
        assert len(set(names)) == len(names)
        for place, passage in enumerate(chain):
            for other, name in enumerate(names):
                if other not in (place, place + 1):
                    assert not mentions(passage, name), question.id
            if place < len(chain) - 1 and question.hops[-1].answers[0] not in ("",):
                aliases = question.golden_answers if not question.golden_answers[0][0].isdigit() else ()
                assert not any(mentions(passage, answer) for answer in aliases), question.id
        assert not any(answer in text for text in (question.text, *question.paraphrases) for answer in names[1:])


def test_hops_refer_to_the_hop_that_finds_their_subject(
    mixture: tuple[dict[str, Passage], dict[str, list[Question]]],
) -> None:
    _, questions = mixture
    for question in questions["test"]:
        for place, hop in enumerate(question.hops):
            assert hop.triple is not None
            named = [int(number) - 1 for number in re.findall(r"#(\d)", hop.question)]
            assert set(named) <= set(hop.depends_on) and all(k < place for k in hop.depends_on)
            assert all(question.hops[k].answers[0] == hop.triple[0] for k in named)
            assert named or hop.triple[0] in hop.question


def test_an_intersection_has_one_person_in_both_groups(
    mixture: tuple[dict[str, Passage], dict[str, list[Question]]],
) -> None:
    _, questions = mixture
    found = [q for split in SPLITS for q in questions[split] if q.kind == "intersection"]
    assert len(found) > 50
    for question in found:
        first, second = (set(hop.answers) for hop in question.hops[:2])
        assert first & second == {question.hops[0].answers[0]}
        if len(question.hops) == 2:
            assert question.golden_answers[0] in first & second


def test_a_comparison_is_won_by_the_right_side(
    mixture: tuple[dict[str, Passage], dict[str, list[Question]]],
) -> None:
    _, questions = mixture
    months = "January February March April May June July August September October November December".split()  # noqa: SIM905

    def order(text: str) -> tuple[int, ...]:
        words = text.split()
        return (int(words[2]), months.index(words[1]), int(words[0])) if len(words) == 3 else (int(words[0]),)

    found = [q for split in SPLITS for q in questions[split] if q.kind == "comparison"]
    assert {len(q.hops) for q in found} == {2, 3, 4}
    for question in found:
        sides = [(order(hop.answers[0]), hop.triple[0], hop.triple[1]) for hop in question.hops[-2:] if hop.triple]
        more_wins = BY_NAME[sides[0][2]].target == "count"
        assert question.golden_answers[0] == (max(sides) if more_wins else min(sides))[1]


def test_splits_share_no_chain_and_no_final_answer(
    mixture: tuple[dict[str, Passage], dict[str, list[Question]]],
    two_hops: tuple[dict[str, Passage], dict[str, list[Question]]],
) -> None:
    for _, questions in (mixture, two_hops):
        answers = {s: {normalised(a) for q in questions[s] for a in q.golden_answers} for s in SPLITS}
        chains = {s: [frozenset(hop.triple[:2] for hop in q.hops if hop.triple) for q in questions[s]] for s in SPLITS}
        for one, other in combinations(SPLITS, 2):
            assert not answers[one] & answers[other]
            assert not set(chains[one]) & set(chains[other])
            links = {pair for q in questions[one] for pair in linked(q)}
            assert not links & {pair for q in questions[other] for pair in linked(q)}, "a chain inside another one"
        assert all(len(set(of)) == len(of) for of in chains.values())


def linked(question: Question) -> list[tuple[object, object]]:
    triples = [hop.triple[:2] for hop in question.hops if hop.triple]
    return [(triples[k], triples[place]) for place, hop in enumerate(question.hops) for k in hop.depends_on]


def test_no_answer_is_frequent_and_names_are_asked_for(
    two_hops: tuple[dict[str, Passage], dict[str, list[Question]]],
) -> None:
    _, questions = two_hops
    for split in SPLITS:
        counts = Counter(question.golden_answers[0] for question in questions[split])
        assert counts.most_common(1)[0][1] / len(questions[split]) <= 0.02
        assert not any(answer[0].isdigit() for answer in counts), "tiny asks for names"
    assert all(len(question.golden_answers) > 1 for question in questions["test"])


def test_names_are_unique_and_made_of_the_listed_parts(mixture_dir: Path) -> None:
    passages, _ = read_world(mixture_dir)
    parts = set(json.loads((mixture_dir / "world.json").read_text())["name_parts"])
    titles = [passage.title for passage in passages.values()]
    assert len(set(titles)) == len(titles)
    words = {word for title in titles for word in title.split()}
    nouns = {noun for kind in TYPES for noun in kind.nouns} | {"Gazette", "Almanac", "Diary", "Ledger"}
    for word in words - nouns:
        assert set(split_word(word) or ("?",)) <= parts, word
    assert not parts & {word for p in passages.values() for word in re.findall("[A-Za-z]+", p.text)}
    shared = Counter(word for title in titles for word in title.split() if word not in nouns)
    assert sum(count > 1 for count in shared.values()) / len(shared) > 0.5, "names share words"


def test_tiny_is_short_hard_and_searchable(two_hops: tuple[dict[str, Passage], dict[str, list[Question]]]) -> None:
    passages, questions = two_hops
    measures = measure_world(list(passages.values()), questions["test"])
    assert measures.passage_tokens_max < 60 and 33 < measures.passage_tokens_mean < 45
    assert measures.question_tokens_max["bridge 2 hops"] <= 22
    assert measures.num_lower_case_words < 1200
    assert measures.paraphrase_word_jaccard <= 0.5
    assert 0.3 <= measures.paraphrase_top5_overlap <= 0.8
    assert 0.3 <= measures.paraphrase_top5_jaccard <= 0.8
    assert measures.single_search_recall_at_2 <= 0.2
    assert measures.hop_recall_at_2 >= 0.9
    for question in questions["test"]:
        assert len({question.text, *question.paraphrases}) == 5


@pytest.mark.parametrize("hops", [2, (2, 3)])
def test_held_out_wordings_never_meet_training(tmp_path: Path, hops: object) -> None:
    make_world(WorldSettings.preset("tiny", hops=hops, held_out_wordings=2, **MIXTURE), tmp_path / "w")
    passages, questions = read_world(tmp_path / "w")
    wordings = json.loads((tmp_path / "w" / "world.json").read_text())["relations"]
    checked = 0
    for split in SPLITS:
        usual, held_out = ("", "held_out_") if split != "test" else ("held_out_", "")
        for question in questions[split]:
            for hop in question.hops:
                assert hop.triple is not None
                relation = wordings[hop.triple[1]]
                text = passages[hop.supporting_id or ""].text
                assert any(states(text, w, hop.answers) for w in relation[f"{usual}statements"])
                assert not any(states(text, w, hop.answers) for w in relation[f"{held_out}statements"])
            texts = (question.text, *question.paraphrases)
            relations = [wordings[hop.triple[1]] for hop in question.hops if hop.triple]
            allowed = [beginning(w) for entry in wordings.values() for w in entry[f"{usual}phrases"]]
            for wording in (w for entry in relations for w in entry[f"{held_out}phrases"]):
                if not any(start.startswith(beginning(wording)) for start in allowed):
                    checked += 1
                    assert not any(beginning(wording) in text for text in texts)
    assert checked > 1000


def beginning(phrase: str) -> str:
    return phrase.split("{s}")[0]


def states(text: str, wording: str, answers: tuple[str, ...]) -> bool:
    """True if the text has this wording of a fact, whatever it calls the subject."""
    return any(wording.replace("{s} ", "").replace("{o}", answer) in text for answer in answers)


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"too few different questions of 2 hops for dev .* Lower dev_questions"):
        make_world(
            WorldSettings.preset("tiny", num_passages=500, hops=2, dev_questions=9_000, test_questions=1),
            tmp_path / "w",
        )
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int | None) -> None:
        if stage == "passages":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_world(WorldSettings.preset("tiny", **MIXTURE), tmp_path / "w", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_build_left_is_cleared_by_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".w.building").mkdir()
    (tmp_path / ".w.building" / "half.jsonl").write_text("{")
    make_world(WorldSettings.preset("tiny", train_questions=5, dev_questions=5, test_questions=5), tmp_path / "w")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    assert not (tmp_path / "w" / "half.jsonl").exists()


def test_an_existing_folder_is_kept_unless_it_is_a_world_to_replace(tmp_path: Path) -> None:
    settings = WorldSettings.preset("tiny", train_questions=5, dev_questions=5, test_questions=5)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=r"exists and is not .*; name a new folder"):
            make_world(settings, tmp_path / "notes", overwrite=overwrite)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"
    make_world(settings, tmp_path / "w")
    with pytest.raises(FileExistsError, match="pass overwrite"):
        make_world(settings, tmp_path / "w")
    make_world(settings, tmp_path / "w", overwrite=True)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_passages(tmp_path: Path) -> None:
    script = (
        "import resource, sys\n"
        "from envs.world import WorldSettings, make_world\n"
        "settings = WorldSettings.preset('large', num_passages=int(sys.argv[1]), train_questions=500)\n"
        "make_world(settings, sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak_kib(num_passages: int) -> int:
        arguments = [sys.executable, "-c", script, str(num_passages), str(tmp_path / str(num_passages))]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        return int(done.stdout)

    assert peak_kib(200_000) - peak_kib(20_000) < 8 * 1024, "180,000 more passages hold 45 MB of text"
