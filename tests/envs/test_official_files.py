"""Official files of every question set in miniature: what they say must reach the question, whatever they are in."""

import gzip
import json
import threading
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from envs.datasets import QuestionError, read_questions, resolve_titles
from envs.datasets.hub import HubSource, hub_source
from retrieval.index import build_index, open_index
from retrieval.passage import Passage

HOTPOT = {
    "_id": "5a8b57f25542995d1e6f1371",
    "question": "Were Scott Derrickson and Ed Wood of the same nationality?",
    "answer": "yes",
    "type": "comparison",
    "level": "hard",
    "supporting_facts": [["Scott Derrickson", 0], ["Ed Wood", 0], ["Ed Wood", 1]],
    "context": [["Ed Wood (film)", ["A film."]], ["Scott Derrickson", ["He is American."]]],
}
TWO_WIKI = {
    "_id": "13f5ad2c088c11ebbd6fac1f6bf848b6",
    "type": "bridge_comparison",
    "question": "Are director of film Move (1970 Film) and director of film Méditerranée from the same country?",
    "answer": "no",
    "supporting_facts": [["Move (1970 film)", 0], ["Stuart Rosenberg", 0]],
    "evidences": [
        ["Move (1970 film)", "director", "Stuart Rosenberg"],
        ["Stuart Rosenberg", "country of citizenship", "American"],
    ],
    "context": [],
}
MUSIQUE = {
    "id": "2hop__460946_294723",
    "paragraphs": [
        {"idx": 0, "title": "Skins", "paragraph_text": "x", "is_supporting": False},
        {"idx": 1, "title": "Green (Steve Hillage album)", "paragraph_text": "y", "is_supporting": True},
        {"idx": 2, "title": "Miquette Giraudy", "paragraph_text": "z", "is_supporting": True},
    ],
    "question": "Who is the spouse of the Green performer?",
    "question_decomposition": [
        {"id": 1, "question": "Green >> performer", "answer": "Steve Hillage", "paragraph_support_idx": 1},
        {"id": 2, "question": "#1 >> spouse", "answer": "Miquette Giraudy", "paragraph_support_idx": 2},
    ],
    "answer": "Miquette Giraudy",
    "answer_aliases": ["Giraudy"],
    "answerable": True,
}
TRIVIA = {
    "Data": [
        {
            "QuestionId": "tc_2",
            "Question": "Who was the man behind The Chipmunks?",
            "Answer": {"Value": "David Seville", "Aliases": ["David Seville", "Ross Bagdasarian"]},
        }
    ]
}
VERL = {
    "data_source": "nq",
    "prompt": [{"role": "user", "content": "Answer the given question. For example, Beijing. Question: who am i?\n"}],
    "ability": "fact-reasoning",
    "reward_model": {"style": "rule", "ground_truth": {"target": ["you", "me"]}},
    "extra_info": {"split": "test", "index": 7},
}
SKYRL = {
    "data_source": "searchR1_hotpotqa",
    "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "who is it"}],
    "env_class": "search",
    "reward_spec": {"method": "rule", "ground_truth": {"target": ["it"]}},
    "extra_info": {"index": 3, "split": "train"},
}


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_hotpotqa_pages_are_supports(tmp_path: Path) -> None:
    [question] = read_questions(write(tmp_path / "hotpot_dev_distractor_v1.json", json.dumps([HOTPOT])))
    assert question.supporting_ids == ("Scott Derrickson", "Ed Wood")
    assert (question.id, question.golden_answers, question.kind) == (HOTPOT["_id"], ("yes",), "comparison")
    facts = {"title": ["Scott Derrickson", "Ed Wood", "Ed Wood"], "sent_id": [0, 0, 1]}
    of_hub = {**HOTPOT, "id": HOTPOT["_id"], "supporting_facts": facts, "context": None}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([of_hub]), tmp_path / "hub.parquet")
    assert read_questions(tmp_path / "hub.parquet") == [question]


def test_two_wiki_triples_are_hops_that_depend_on_each_other(tmp_path: Path) -> None:
    [question] = read_questions(write(tmp_path / "dev.json.gz", json.dumps([TWO_WIKI])))
    first, second = question.hops
    assert first.question == "Move (1970 film) >> director" and first.supporting_id == "Move (1970 film)"
    assert second.depends_on == (0,) and second.supporting_id == "Stuart Rosenberg" and second.answers == ("American",)
    packed = {**TWO_WIKI, "evidences": json.dumps(TWO_WIKI["evidences"])}
    assert read_questions(write(tmp_path / "packed.jsonl", json.dumps(packed))) == [question]


def test_musique_aliases_hops_and_graph(tmp_path: Path) -> None:
    lost = {**MUSIQUE, "id": "3hop1__1_2_3", "answerable": False}
    rows = f"{json.dumps(MUSIQUE)}\n{json.dumps(lost)}\n"
    question, unanswerable = read_questions(write(tmp_path / "musique_full_v1.0_dev.jsonl", rows))
    assert question.golden_answers == ("Miquette Giraudy", "Giraudy") and question.kind == "2hop"
    assert question.supporting_ids == ("Green (Steve Hillage album)", "Miquette Giraudy")
    assert question.hops[1].depends_on == (0,) and question.hops[1].supporting_id == "Miquette Giraudy"
    assert unanswerable.golden_answers == () and unanswerable.kind == "unanswerable"


def test_open_question_sets(tmp_path: Path) -> None:
    [nq] = read_questions(write(tmp_path / "NQ-open.dev.jsonl", '{"question": "who sang it", "answer": ["A", "B"]}\n'))
    assert (nq.id, nq.golden_answers) == ("nq-00001", ("A", "B"))
    [dpr] = read_questions(write(tmp_path / "nq-test.qa.csv", "who sang it\t['A', \"B's\"]\n"))
    assert dpr.golden_answers == ("A", "B's")
    [trivia] = read_questions(write(tmp_path / "wikipedia-dev.json", json.dumps(TRIVIA)))
    assert (trivia.id, trivia.golden_answers) == ("tc_2", ("David Seville", "Ross Bagdasarian"))
    verified = {**TRIVIA["Data"][0], "Answer": {"Value": "A", "Aliases": ["B"], "HumanAnswers": ["C"]}}
    [human] = read_questions(write(tmp_path / "verified.json", json.dumps({"Data": [verified]})))
    assert human.golden_answers == ("A", "B", "C")
    popqa = 'id\tsubj\tprop\tquestion\tpossible_answers\n42\tX\toccupation\tWhat is X?\t"[""poet"", ""Dichter""]"\n'
    [pop] = read_questions(write(tmp_path / "popqa.tsv", popqa))
    assert (pop.id, pop.golden_answers, pop.kind) == ("popqa-42", ("poet", "Dichter"), "occupation")
    [bamboogle] = read_questions(write(tmp_path / "bamboogle.csv", 'Question,Answer\n"Who, then?",James Madison\n'))
    assert (bamboogle.text, bamboogle.golden_answers) == ("Who, then?", ("James Madison",))
    flashrag = {"id": "test_0", "question": "who?", "golden_answers": ["A"], "metadata": {}}
    [flash] = read_questions(write(tmp_path / "test.jsonl", json.dumps(flashrag)))
    assert (flash.id, flash.golden_answers) == ("test_0", ("A",))


def test_rows_for_training_are_asked_without_their_prompt(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([VERL]), tmp_path / "verl.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([SKYRL]), tmp_path / "skyrl.parquet")
    [verl], [skyrl] = read_questions(tmp_path / "verl.parquet"), read_questions(tmp_path / "skyrl.parquet")
    merged = [{**VERL, "id": "test_0"}, {**VERL, "id": "test_0", "data_source": "popqa"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(merged), tmp_path / "merged.parquet")
    ids = [question.id for question in read_questions(tmp_path / "merged.parquet")]
    assert ids == ["nq-test_0", "popqa-test_0"], "Search-R1's file of seven sets repeats each set's ids"
    assert (verl.id, verl.text, verl.golden_answers) == ("nq-7", "who am i?", ("you", "me"))
    assert (skyrl.text, skyrl.golden_answers, skyrl.split) == ("who is it", ("it",), "train")


def test_a_beir_folder_has_judged_queries_alone(tmp_path: Path) -> None:
    write(tmp_path / "queries.jsonl", '{"_id": "1", "text": "a claim"}\n{"_id": "2", "text": "unjudged"}\n')
    (tmp_path / "qrels").mkdir()
    write(tmp_path / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\n1\td9\t1\n1\td3\t0\n")
    [question] = read_questions(tmp_path)
    assert (question.id, question.supporting_ids, question.golden_answers) == ("1", ("d9",), ())
    (tmp_path / "qrels" / "test.tsv").write_text("1\td9\tmuch\n1\td9\n")
    with pytest.raises(QuestionError, match=r"test.tsv, line 2: a judgement is query, document and score"):
        read_questions(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[{"_id": "1", "supporting_facts": []}]', "row.*missing question|missing question"),
        ("a.json", json.dumps([{**HOTPOT, "supporting_facts": [1]}]), "supporting_facts must be a list of"),
        ("a.json", json.dumps([HOTPOT, HOTPOT]), "already used in row 1"),
        ("a.json", "[1, 2]", "a question is an object, got int"),
        ("a.json", "[", "not JSON"),
        ("a.json", '[{"x": 1}]', "neither name nor content"),
        ("a.tsv", "id\tquestion\tpossible_answers\n1\tq?\tnot json\n", "possible_answers must be a list, or JSON"),
        ("a.tsv", "id\tquestion\tpossible_answers\n1\tq?\n", "2 cells under 3 columns"),
        ("a.parquet", "no parquet", "not a parquet file"),
        ("a.jsonl", '{"question": "q", "answer": {"aliases": 3}}\n', "Answer.aliases must be a text or a list"),
    ],
)
def test_a_broken_file_is_told_with_its_row(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(QuestionError, match=message):
        read_questions(write(tmp_path / name, text))


def test_titles_become_the_ids_of_a_corpus(tmp_path: Path) -> None:
    rows = [
        {"id": "7", "title": "Scott Derrickson", "text": "He is American."},
        {"id": "8", "title": "Ed Wood", "text": "Yes, an American director."},
        {"id": "9", "title": "Miquette Giraudy", "text": "Miquette Giraudy plays synthesizers."},
        {"id": "10", "title": "Miquette Giraudy", "text": "Born in Nice."},
        {"id": "11", "title": "Green (Steve Hillage album)", "text": "An album by Steve Hillage."},
    ]
    write(tmp_path / "corpus.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    build_index(tmp_path / "corpus.jsonl", tmp_path / "index")
    write(tmp_path / "both.json", json.dumps([HOTPOT]))
    write(tmp_path / "musique.jsonl", json.dumps(MUSIQUE))
    questions = read_questions(tmp_path / "both.json") + read_questions(tmp_path / "musique.jsonl")
    with open_index(tmp_path / "index") as index:
        resolved, told = resolve_titles(index, questions)
        assert resolve_titles(index, resolved) == (resolved, None), "ids are left alone"
    assert resolved[0].supporting_ids == ("7", "8")
    assert resolved[1].supporting_ids == ("11", "9"), "of two passages of a page, the one that says the answer"
    assert resolved[1].hops[1].supporting_id == "9" and told is None


def test_a_title_that_several_passages_carry_is_not_guessed(tmp_path: Path) -> None:
    rows = [{"id": str(i), "title": "Ed Wood", "text": f"part {i}"} for i in range(2)]
    rows.append({"id": "x", "title": "Scott Derrickson", "text": "He."})
    write(tmp_path / "corpus.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    build_index(tmp_path / "corpus.jsonl", tmp_path / "index")
    write(tmp_path / "hotpot.json", json.dumps([HOTPOT]))
    with open_index(tmp_path / "index") as index:
        [question], told = resolve_titles(index, read_questions(tmp_path / "hotpot.json"))
    assert question.supporting_ids == ("x", "Ed Wood")
    assert told is not None and "1 supports are named by a title that several passages carry (first: 'Ed Wood')" in told


def test_titles_are_asked_for_several_at_once(tmp_path: Path) -> None:
    """A server answers one title a request: one after the other, a large set would wait for minutes."""
    both = threading.Barrier(2, timeout=30)

    class Server:
        def known_ids(self, ids):
            return set()

        def titled(self, title):
            both.wait()
            return [Passage(id=title.lower(), title=title, text="")]

    write(tmp_path / "hotpot.json", json.dumps([HOTPOT]))
    [question], _ = resolve_titles(Server(), read_questions(tmp_path / "hotpot.json"))  # type: ignore[arg-type]
    assert question.supporting_ids == ("scott derrickson", "ed wood")


def test_what_is_a_path_and_what_is_of_the_hub(tmp_path: Path) -> None:
    assert hub_source("hotpotqa/hotpot_qa:distractor:validation") == HubSource(
        "hotpotqa/hotpot_qa", "distractor", "validation"
    )
    assert hub_source("a/b") == HubSource("a/b")
    assert hub_source("data/dev.jsonl") is None and hub_source("data/dev.jsonl.gz") is None
    assert hub_source("/data/x") is None and hub_source(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="no question file at"):
        read_questions("missing/dev.jsonl")


def test_the_hubs_library_loads_rows_and_a_split_that_has_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real loader of the library `datasets`, over a folder as the hub's repositories are."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    blind = {**HOTPOT, "answer": "", "_id": "blind"}
    for split, row in (("test", blind), ("validation", HOTPOT), ("train", {**HOTPOT, "_id": "t"})):
        facts = {"title": ["Ed Wood"], "sent_id": [0]}
        table = pyarrow.Table.from_pylist([{**row, "supporting_facts": facts, "context": None}])
        pyarrow.parquet.write_table(table, folder / f"{split}.parquet")
    [question] = read_questions(f"hf:{folder}")
    assert (question.id, question.supporting_ids) == (HOTPOT["_id"], ("Ed Wood",))
    [trained] = read_questions(f"hf:{folder}::train")
    assert trained.id == "t"
    with pytest.raises(ValueError, match="cannot be loaded"):
        read_questions(f"hf:{folder}::nowhere")
