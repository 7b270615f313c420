"""Question readers, one format a file, and the check that their supports exist."""

from envs.datasets.jsonl import parse_question, question_row
from envs.datasets.question_error import QuestionError
from envs.datasets.reading import FORMATS, read_questions
from envs.datasets.supports import SupportCheck, check_supports, check_supports_in
from envs.datasets.titles import resolve_titles

__all__ = [
    "FORMATS",
    "QuestionError",
    "SupportCheck",
    "check_supports",
    "check_supports_in",
    "parse_question",
    "question_row",
    "read_questions",
    "resolve_titles",
]
