"""One run's evaluations as they are compared: a single file, or a folder that holds one for each question set.

Runs are compared on the same questions or not at all. The sets of two runs, and the questions of each set, must be the
same; those that only some have are named, and left out only where that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.evaluation_file import FILE, EvaluationFile, evaluation_path, is_half_written, read_evaluation

ONE_SET = "questions"
"""Name of the only question set of a run whose file does not say what it asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSuite:
    """A run: its name, and its evaluation of every question set by the set's name."""

    name: str
    path: Path
    sets: dict[str, EvaluationFile]

    @property
    def num_questions(self) -> int:
        """Questions of all sets."""
        return sum(file.num_questions for file in self.sets.values())


def read_suites(paths: Sequence[str | Path]) -> list[EvaluationSuite]:
    """Read every run, named by the shortest ends of their paths that tell them apart.

    Raises:
        FileNotFoundError, ValueError: as `read_evaluation`; or one run was given twice.
    """
    given = [Path(path) for path in paths]
    resolved = [path.resolve() for path in given]
    repeated = [path for i, path in enumerate(resolved) if path in resolved[:i]]
    if repeated:
        raise ValueError(f"{repeated[0]} was given twice; a run does not differ from itself")
    found = [_sets(path) for path in given]
    single = all(len(sets) == 1 for sets in found)
    if single:  # one set each: what it is called does not matter
        name = next(iter(found[0]))
        found = [{name: next(iter(sets.values()))} for sets in found]
    return [
        EvaluationSuite(name=name, path=path, sets=sets)
        for name, path, sets in zip(_names(resolved), given, found, strict=True)
    ]


def same_questions(
    suites: Sequence[EvaluationSuite], *, common_only: bool = False
) -> tuple[list[EvaluationSuite], list[str]]:
    """The runs with the sets and questions that all of them have, in the first one's order; and what was left out.

    Raises:
        ValueError: they do not all have the same ones and `common_only` is off, or nothing is common.
    """
    all_sets = list(dict.fromkeys(name for suite in suites for name in suite.sets))
    common_sets = [name for name in all_sets if all(name in suite.sets for suite in suites)]
    left_out: list[str] = []
    for name in all_sets:
        if name not in common_sets:
            lacking = ", ".join(suite.name for suite in suites if name not in suite.sets)
            left_out.append(f"question set {name}: {lacking} has no evaluation of it")
    taken: dict[str, tuple[str, ...]] = {}
    for name in common_sets:
        files = [suite.sets[name] for suite in suites]
        shared = set(files[0].question_ids).intersection(*(file.question_ids for file in files[1:]))
        for suite, file in zip(suites, files, strict=True):
            if only := [question_id for question_id in file.question_ids if question_id not in shared]:
                left_out.append(
                    f"{name}: {len(only)} of the {file.num_questions} questions of {suite.name} are not in every run, "
                    f"first {only[0]!r}"
                )
        ids = tuple(question_id for question_id in files[0].question_ids if question_id in shared)
        if ids:
            taken[name] = ids
        _check_texts(name, suites, ids)
    if not taken:
        raise ValueError(
            "the runs have no question in common"
            + "".join(f"\n  {line}" for line in left_out)
            + "\n  evaluate all of them on one question file"
        )
    if left_out and not common_only:
        raise ValueError(
            "the runs answer different questions, so their figures cannot be compared:"
            + "".join(f"\n  {line}" for line in left_out)
            + "\n  evaluate all on the same file, or compare what they have in common with --common-questions"
        )
    cut = [replace(suite, sets={name: suite.sets[name].taken(ids) for name, ids in taken.items()}) for suite in suites]
    return cut, left_out


def _check_texts(name: str, suites: Sequence[EvaluationSuite], ids: tuple[str, ...]) -> None:
    """Equal ids must be equal questions, where the files say what was asked."""
    asked: dict[str, tuple[str, str]] = {}
    for suite in suites:
        file = suite.sets[name]
        if "question" not in file.texts:
            continue
        texts = dict(zip(file.question_ids, file.texts["question"], strict=True))
        for question_id in ids:
            first, text = asked.setdefault(question_id, (suite.name, texts[question_id]))
            if text != texts[question_id]:
                raise ValueError(
                    f"{name}: question {question_id!r} is {text!r:.120} in {first} and {texts[question_id]!r:.120} in "
                    f"{suite.name}; the runs were evaluated on different files, evaluate them on one"
                )


def _sets(path: Path) -> dict[str, EvaluationFile]:
    if path.is_dir() and not (path / FILE).is_file():
        parts = sorted(part for part in path.iterdir() if (part / FILE).is_file())
        torn = sorted(part.name for part in path.iterdir() if part.is_dir() and is_half_written(part))
        if parts and torn:
            raise FileNotFoundError(
                f"{path} is half written: {', '.join(torn)} has trajectories but no {FILE}; evaluate the suite again, "
                "it goes on where it was"
            )
        if parts:
            return {part.name: read_evaluation(part) for part in parts}
    file = read_evaluation(evaluation_path(path))
    questions = file.comparability.get("questions")
    name = questions.get("name") if isinstance(questions, dict) else None
    return {str(name).partition(".jsonl")[0] if name else ONE_SET: file}


def _names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many before it as tell them apart."""
    folders = [path.parent if path.name == FILE else path for path in paths]
    for depth in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
