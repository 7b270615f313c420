"""What a report is made of: plain frozen data, no HTML and no charts.

A caller fills these in; `evaluation.report.write_report` turns them into one page and one JSON file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A figure after so many sampled trajectories (and optimiser steps), with its interval where there is one."""

    trajectories: float
    value: float
    low: float | None = None
    high: float | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRun:
    """One of several seeds of an arm: its own curve and its metrics, one mapping a step."""

    seed: int
    curve: Sequence[CurvePoint] = ()
    metrics: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of doing it: a credit estimator, a policy.

    Attributes:
        name: as it stands in legends and tables, and the key in report.json.
        curve: figure over sampled trajectories; with several `seeds` leave it empty, the median is drawn.
        metrics: the objects of a run's metrics.jsonl.
        final: what it came to: the summary of an `Evaluation`, and any other figures.
        seeds: its runs, where there are several.
    """

    name: str
    curve: Sequence[CurvePoint] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    final: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[SeedRun] = ()


Tone = Literal["", "good", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A table cell: a number with its interval. None where it does not apply.

    `mark` stands behind the number, such as the star of a significant difference, in the colour of `tone`; `signed`
    shows a difference with its sign.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    mark: str = ""
    tone: Tone = ""
    signed: bool = False


Cell = str | int | float | Measure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of a report. Every row has one cell for each column.

    Raises:
        ValueError: a row with another number of cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r} has {len(self.columns)} columns but a row of {len(row)} cells: {list(row)!r}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplePassage:
    """A passage as the policy saw it: number, and whether it is gold, cited by the answer, cut by the token budget."""

    number: int
    id: str
    title: str
    text: str
    gold: bool = False
    cited: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTurn:
    """A turn card. `rewards` are this turn's, by name; `advantage` is the mean over its tokens."""

    kind: str
    thought: str = ""
    queries: Sequence[str] = ()
    answer: str | None = None
    citations: Sequence[int] = ()
    error: str | None = None
    passages: Sequence[ExamplePassage] = ()
    rewards: Mapping[str, float] = field(default_factory=dict)
    advantage: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A trajectory to look at. `rewards` are those of the whole trajectory; `label` says where it comes from; `link` is
    its address in the viewer, "" without one.
    """

    id: str
    question: str
    golden_answers: Sequence[str]
    finish_reason: str
    turns: Sequence[ExampleTurn]
    em: float | None = None
    rewards: Mapping[str, float] = field(default_factory=dict)
    label: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplePair:
    """One question as two runs answered it, side by side; None where a run's trajectory is not at hand. `link` is the
    address of both in the viewer, "" without one.
    """

    title: str
    first: Example | None
    second: Example | None
    note: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure of the page: `key` is its element id, `rows` the same data for readers without the picture."""

    key: str
    title: str
    figure: dict[str, Any]
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    small: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A headline figure: what it is, the figure as text, and a line below it."""

    label: str
    value: str
    detail: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a report under a heading: words, charts, tables, and questions side by side, in this order.

    `folded` shows its tables on demand.
    """

    title: str
    note: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    pairs: Sequence[ExamplePair] = ()
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricChart:
    """A training metric over sampled trajectories: `key` of metrics.jsonl, drawn for every arm that has it."""

    key: str
    title: str


DEFAULT_METRIC_CHARTS: tuple[MetricChart, ...] = (
    MetricChart(key="em", title="EM of sampled trajectories"),
    MetricChart(key="searches", title="Searches per sampled trajectory"),
    MetricChart(key="finish_ratio/turn_limit", title="Share that ran into the turn limit"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report.

    Attributes:
        title: of the page.
        summary_lines: what a reader in a hurry should know, one sentence each.
        arms: in the order of legends and columns.
        tables: further tables.
        controls: summary of an `Evaluation` by the control's name.
        examples: trajectories as turn cards.
        comparability: the block of `evaluation.comparability`.
        tiles: headline figures, above everything.
        sections: further parts, before the tables.
        figures: further entries of report.json, under their own names.
        per_question: columns of one length that become `report.csv`; none: no such file.
        notes: what limits the figures, one sentence each.
        curve_title: what the learning curves show.
        threshold: a horizontal line in the learning curves, or None.
        metric_charts: training metrics to draw; reward components (`rewards/NAME/mean`) are always drawn.
    """

    title: str
    summary_lines: Sequence[str] = ()
    arms: Sequence[Arm] = ()
    tables: Sequence[Table] = ()
    controls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    comparability: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    per_question: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    curve_title: str = "Exact match on held-out questions"
    threshold: float | None = None
    metric_charts: Sequence[MetricChart] = DEFAULT_METRIC_CHARTS

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ValueError(f"two arms have one name: {names}; give each its own, it is the key in report.json")
        lengths = {name: len(column) for name, column in self.per_question.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of per_question have different lengths: {lengths}; give one value a question")
