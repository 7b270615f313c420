"""Judges: an endpoint that answers by a schema, and rules that need no model. For training only."""

from rewards.judge.judge import Judge, JudgeRequest, Verdict
from rewards.judge.opening import JudgeSpec, open_judge, read_judge_settings

__all__ = ["Judge", "JudgeRequest", "JudgeSpec", "Verdict", "open_judge", "read_judge_settings"]
