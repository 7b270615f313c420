"""What a comparison's page has in common with that of one evaluation: groups, how episodes ended, a line a question."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.comparison import Comparison
from evaluation.comparison_record import question_rows
from evaluation.comparison_report import breakdown_sections, finish_sections
from evaluation.evaluation_file import FILE, EvaluationFile
from evaluation.evaluation_suite import ONE_SET, EvaluationSuite
from evaluation.metrics import Evaluation
from evaluation.question_columns import question_columns
from evaluation.report_parts import Section


def run_sections(
    evaluation: Evaluation,
    questions: Sequence[Question] | Mapping[str, Question],
    trajectories: Sequence[Trajectory],
    *,
    measure: str = "em",
) -> tuple[list[Section], dict[str, list[Any]]]:
    """Sections for `Report.sections`, and columns for `Report.per_question`, of an evaluation that was just made."""
    file = EvaluationFile(
        path=Path(FILE),
        summary=evaluation.summary,
        question_ids=evaluation.question_ids,
        figures=evaluation.per_question,
        texts=question_columns(evaluation.question_ids, questions, trajectories),
        comparability={},
        controls={},
    )
    run = EvaluationSuite(name="mean", path=Path(FILE), sets={ONE_SET: file})
    alone = Comparison(runs=(run,), measures=(measure,), differences=(), fields=())
    columns = {name.removeprefix(f"{run.name}: "): values for name, values in question_rows(alone).items()}
    del columns["question_set"]
    return [*breakdown_sections(alone), *finish_sections(alone)], columns
