"""What the figures of an evaluation are called where people read them."""

METRIC_LABELS: dict[str, str] = {
    "em": "Exact match",
    "em_without_outages": "Exact match, outages left out",
    "f1": "F1",
    "subem": "SubEM",
    "support_recall": "Support recall",
    "citation_precision": "Citation precision",
    "citation_recall": "Citation recall",
    "searches_per_question": "Searches per question",
    "turns_per_question": "Turns per question",
    "support_em": "Supports cited exactly",
    "support_f1": "Support F1",
    "joint_em": "Joint EM",
    "joint_f1": "Joint F1",
    "over_citation": "Over-citation",
    "abstention": "Abstention",
    "best_possible_em": "Best possible EM",
    "duplicate_searches_per_question": "Duplicate searches per question",
    "tokens_per_question": "Tokens per question",
    "sampled_tokens_per_question": "Tokens sampled",
    "observed_tokens_per_question": "Tokens observed",
    "input_tokens_per_question": "Tokens read in all calls",
}
"""Rows of the evaluation table, in this order."""


def figure_label(name: str) -> str:
    """A figure's name for a reader: of `METRIC_LABELS`, else its own name in words."""
    return METRIC_LABELS.get(name) or name.replace("_", " ").capitalize()
