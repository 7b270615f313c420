"""Which curves a run's page shows, and in which sections: the field's figures first, everything else below."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.viewer.curve_svg import Curve, Histogram, curve, histogram
from evaluation.viewer.metric_log import MetricLog, Points


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartSection:
    """Charts under one heading; `key` is its anchor."""

    key: str
    title: str
    curves: Sequence[Curve]
    histograms: Sequence[Histogram] = ()


_TOGETHER: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("quality", "Exact match", (("sampled", "em"), ("held out", "dev/em"))),
    ("quality", "Held-out F1 and SubEM", (("F1", "dev/f1"), ("SubEM", "dev/subem"))),
    (
        "quality",
        "Held-out evidence",
        (
            ("support recall", "dev/support_recall"),
            ("citation precision", "dev/citation_precision"),
            ("citation recall", "dev/citation_recall"),
        ),
    ),
    ("policy", "Entropy", (("entropy", "entropy"),)),
    ("policy", "KL and clipped share", (("KL", "kl"), ("clipped", "clip_ratio"))),
    ("policy", "Ratio of learner to sampler", (("1 %", "ratio/p01"), ("median", "ratio/p50"), ("99 %", "ratio/p99"))),
    ("policy", "Ratios in the tails (share)", (("tails", "ratio/tail_share"), ("capped", "ratio/capped_share"))),
    ("policy", "Gradient norm", (("gradient norm", "grad_norm"),)),
    ("policy", "Loss", (("loss", "loss"),)),
    ("behaviour", "Turns and searches", (("turns", "turns"), ("searches", "searches"))),
    (
        "behaviour",
        "Valid actions and answers (share)",
        (("valid actions", "valid_action"), ("answered", "answer_rate")),
    ),
    ("behaviour", "Thinking length (words of a turn)", (("words", "thoughts/words"),)),
    ("behaviour", "Duplicate queries (share of searches)", (("duplicates", "duplicate_query_rate"),)),
    ("behaviour", "Repeated n-grams (share)", (("thoughts", "thoughts/repetition"), ("actions", "actions/repetition"))),
    (
        "watch",
        "Log-likelihood of sampled tokens",
        (("correct trajectories", "logprob/correct"), ("all", "logprob/mean")),
    ),
    ("behaviour", "Completion length (tokens)", (("tokens", "completions/mean_length"),)),
    (
        "speed",
        "Staleness (policy versions)",
        (("mean", "staleness/mean"), ("max", "staleness/max"), ("mixed share", "staleness/mixed_share")),
    ),
)
"""(section, title, (line, metric) pairs) of the curves with a place of their own."""

SECTIONS: dict[str, str] = {
    "quality": "Answers",
    "rewards": "Reward components",
    "policy": "Policy and update",
    "behaviour": "Behaviour",
    "watch": "Collapse watch",
    "speed": "Staleness and throughput",
    "other": "Everything else",
}
_BEHAVIOUR = ("think", "thought", "duplicate")
_HIDDEN = frozenset({"step", "trajectories"})
_MOST_LINES = 6
"""Of one drawing: the style sheet has so many colours."""


def chart_sections(metrics: MetricLog, from_records: dict[str, Points]) -> list[ChartSection]:
    """Sections with at least one chart. `from_records` are figures by step that the trajectories themselves gave."""
    keys = metrics.names()
    used: set[str] = set(_HIDDEN)
    curves: dict[str, list[Curve]] = {name: [] for name in SECTIONS}

    def add(section: str, title: str, series: dict[str, Points]) -> None:
        if (drawn := curve(title, series)) is not None:
            curves[section].append(drawn)

    for section, title, lines in _TOGETHER:
        add(section, title, {name: metrics.points(key) for name, key in lines})
        used.update(key for _, key in lines)
    for name in dict.fromkeys(key.split("/", 1)[1].rsplit("/", 1)[0] for key in keys if _is_reward(key)):
        means = {"mean": f"rewards/{name}/mean", "weighted": f"rewards/{name}/weighted_mean"}
        add("rewards", name, {line: metrics.points(key) for line, key in means.items()})
        used.update(means.values())
    for title, series in from_records.items():
        add("behaviour", title, {"of the stored trajectories": series})
    shares = {k: sum(y for _, y in metrics.points(k)) for k in keys if k.startswith("finish_ratio/")}
    finishes = [key for key in sorted(shares, key=lambda key: -shares[key]) if shares[key]][:_MOST_LINES]
    add("behaviour", "How episodes end (share)", {k.split("/", 1)[1]: metrics.points(k) for k in finishes})
    used.update(key for key in keys if key.startswith("finish_ratio/"))
    for title, per_step in (("Sampled tokens per second", "sampled_tokens"), ("Rows per second", "rows")):
        add("speed", title, {"rate": _rate(metrics.points(per_step), metrics.points("seconds/step"))})
    seconds = [key for key in keys if key.startswith("seconds/")]
    add("speed", "Seconds of a step", {k.split("/", 1)[1]: metrics.points(k) for k in _longest(metrics, seconds)})
    used.update(seconds)
    for key in keys:
        if key not in used:
            add(_section_of(key), key, {key: metrics.points(key)})
    histograms: dict[str, list[Histogram]] = {name: [] for name in SECTIONS}
    for key in metrics.histogram_names():
        found = metrics.histogram(key)
        title = "Log ratio of learner to sampler, tokens" if key == "ratio/histogram" else key
        drawn = histogram(f"{title}, step {found[0]}", found[1]) if found else None
        if drawn is not None:
            histograms["policy"].append(drawn)
    return [
        ChartSection(key=name, title=title, curves=curves[name], histograms=histograms[name])
        for name, title in SECTIONS.items()
        if curves[name] or histograms[name]
    ]


def _is_reward(key: str) -> bool:
    return key.startswith("rewards/") and key.endswith(("/mean", "/weighted_mean"))


def _section_of(key: str) -> str:
    if key.startswith("watch/"):
        return "watch"
    return "behaviour" if key.startswith(_BEHAVIOUR) else "other"


def _rate(amounts: Points, seconds: Points) -> Points:
    took = dict(seconds)
    return [(x, y / took[x]) for x, y in amounts if took.get(x, 0.0) > 0]


def _longest(metrics: MetricLog, keys: list[str]) -> list[str]:
    """The stages that took most of the last step, `step` itself first."""
    ordered = sorted(keys, key=lambda key: -metrics.points(key)[-1][1] if metrics.points(key) else 0.0)
    return ordered[:_MOST_LINES]
