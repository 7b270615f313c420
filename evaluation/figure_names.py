"""What the figures of an evaluation are called where people read them, and which way they are better."""

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
    "tokens_per_question": "Tokens per question",
    "sampled_tokens_per_question": "Tokens sampled",
    "observed_tokens_per_question": "Tokens observed",
}
"""Rows of the evaluation table, in this order."""


OTHER_LABELS: dict[str, str] = {
    "support_em": "Supports cited exactly",
    "support_f1": "Support F1",
    "joint_em": "Joint EM",
    "joint_f1": "Joint F1",
    "over_citation": "Over-citation",
    "abstention": "Abstention",
    "best_possible_em": "Best possible EM",
    "duplicate_searches_per_question": "Duplicate searches per question",
    "input_tokens_per_question": "Tokens read in all calls",
    "search_s_p50": "Seconds of a search, median",
    "search_s_p99": "Seconds of a search, 99th percentile",
    "episode_s_p50": "Seconds of an episode, median",
    "episode_s_p99": "Seconds of an episode, 99th percentile",
}
"""Figures that are no rows of that table."""


LOWER_IS_BETTER = frozenset({"over_citation", "abstention"})
COSTS: tuple[str, ...] = ("searches", "turns", "tokens", "latency", "seconds", "_s_p", "duplicate")
"""Parts of the names of figures that are costs: less is cheaper, and neither is coloured as better or worse."""


def is_cost(figure: str) -> bool:
    """True if a figure is what a run costs, not how good it is."""
    return not figure.startswith("num_") and any(part in figure for part in COSTS)


def direction(figure: str) -> float:
    """1 for a figure of which more is better, -1 where less is better or cheaper."""
    return -1.0 if figure in LOWER_IS_BETTER or is_cost(figure) else 1.0


def figure_label(name: str) -> str:
    """A figure's name for a reader: of the tables above, else its own name in words."""
    return METRIC_LABELS.get(name) or OTHER_LABELS.get(name) or name.replace("_", " ").capitalize()
