"""A made world in words: its counts, its measures, and three questions with the passages that answer them."""

from pathlib import Path
from typing import Any

from envs.datasets import read_questions
from envs.question import Question
from envs.world import WorldSummary
from envs.world_measures import MEASURED_PASSAGES, WorldMeasures, measure_world
from envs.world_settings import SPLITS
from retrieval.corpus import read_corpus
from retrieval.passage import Passage

_NUM_EXAMPLES = 3


def measure_files(world: Path) -> WorldMeasures | None:
    """The measures of a world on disk, on its test questions; None where the corpus is too large to index in memory.

    Raises:
        FileNotFoundError: the folder holds no world.
    """
    passages = []
    for passage in read_corpus(world / "corpus.jsonl"):
        passages.append(passage)
        if len(passages) > MEASURED_PASSAGES:
            return None
    return measure_world(passages, _held_out_questions(world))


def describe_world(summary: WorldSummary, measures: WorldMeasures | None) -> str:
    """What was made, for a person: several lines, three example questions with their evidence among them."""
    counts, settings = summary.counts, summary.settings
    lines = [
        f"world {settings.preset_name}, seed {settings.seed}, in {summary.path}",
        f"  {counts['passages']:,} passages, {counts['distractor_passages']:,} of them distractors; "
        f"{counts['entity_types']} entity types, {counts['relations']} relations",
        "  entities: " + ", ".join(f"{number:,} {name}" for name, number in counts["entities"].items()),
    ]
    for split, by_kind in counts["questions"].items():
        parts = ", ".join(f"{number:,} {kind}" for kind, number in by_kind.items() if kind != "all")
        lines.append(f"  {split}: {by_kind['all']:,} questions ({parts or 'none'})")
    if counts["exhausted"]:
        lines.append(f"  other kinds fill the place of those used up: {', '.join(counts['exhausted'])}")
    if settings.held_out_wordings:
        lines.append(
            f"  {settings.held_out_wordings} wordings of every relation occur in test questions' evidence only"
        )
    lines += ["", *_measure_lines(measures), "", *_example_lines(summary.path)]
    return "\n".join(lines)


def _measure_lines(measures: WorldMeasures | None) -> list[str]:
    if measures is None:
        return [f"not measured: more than {MEASURED_PASSAGES:,} passages; build an index and use evaluate-index"]
    return ["measured on the test questions:"] + [
        f"  {name}: {_shown(value)}" for name, value in measures.figures().items()
    ]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(number)}" for key, number in value.items())
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def _example_lines(world: Path) -> list[str]:
    questions = _examples(_held_out_questions(world))
    wanted = {support for question in questions for support in question.supporting_ids}
    evidence: dict[str, Passage] = {}
    for passage in read_corpus(world / "corpus.jsonl"):
        if passage.id in wanted:
            evidence[passage.id] = passage
            if len(evidence) == len(wanted):
                break
    lines = []
    for question in questions:
        lines += [f"{question.kind}, {len(question.hops)} hops: {question.text}"]
        lines += [f"  or: {paraphrase}" for paraphrase in question.paraphrases]
        for number, hop in enumerate(question.hops, start=1):
            support = evidence[hop.supporting_id or ""]
            lines += [f"  #{number} {hop.question} -> {hop.answers[0]}", f"     [{support.id}] {support.text}"]
        lines += [f"  answer: {' | '.join(question.golden_answers)}", ""]
    return lines[:-1]


def _examples(questions: list[Question]) -> list[Question]:
    """Three questions, of different kinds and numbers of hops as far as there are some."""
    first_of: dict[tuple[str | None, int], Question] = {}
    for question in questions:
        first_of.setdefault((question.kind, len(question.hops)), question)
    mixed = sorted(
        first_of.values(), key=lambda q: sum(o.kind == q.kind and len(o.hops) < len(q.hops) for o in first_of.values())
    )
    return (mixed + [question for question in questions if question not in mixed])[:_NUM_EXAMPLES]


def _held_out_questions(world: Path) -> list[Question]:
    """The test questions; where there are none, the dev or train questions."""
    for split in reversed(SPLITS):
        path = world / f"questions.{split}.jsonl"
        if path.is_file() and path.stat().st_size:
            return read_questions(path)
    raise FileNotFoundError(f"{world} has no question file with a question; make the world again")
