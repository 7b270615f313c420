"""How an answer hangs together: question, hops, passages, citations and answer as a graph, laid out for drawing.

What should hold and does not is drawn too: a gold passage that was never shown, a citation of a number under which
nothing was shown, a citation of a passage that is no gold support, gold evidence that was shown and not cited.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from evaluation.viewer.turn_cards import TrajectoryView

NodeKind = Literal["question", "hop", "passage", "citation", "answer"]
NodeState = Literal["plain", "good", "bad", "missing", "weak"]

COLUMNS: tuple[NodeKind, ...] = ("question", "hop", "passage", "citation", "answer")
_WIDTHS: dict[NodeKind, int] = {"question": 230, "hop": 230, "passage": 210, "citation": 74, "answer": 170}
_GAP = 48
_ROW = 72
_HEIGHT = 58
_TOP = 10
_CHARS_PER_PIXEL = 0.122


@dataclass(slots=True, kw_only=True)
class GraphNode:
    """A box; `x`, `y` are its upper left corner once it is laid out. `full` is the whole text."""

    key: str
    kind: NodeKind
    state: NodeState
    label: str
    lines: tuple[str, ...]
    note: str
    full: str
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = _HEIGHT

    @property
    def middle(self) -> float:
        """Height of the box's middle."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphEdge:
    """A line from one box to another; `broken` where something that should hold does not."""

    source: GraphNode
    target: GraphNode
    broken: bool
    weak: bool
    why: str

    @property
    def path(self) -> str:
        """As SVG draws it."""
        if self.source.x == self.target.x:  # one hop builds on another
            x, bend = self.source.x, 26.0
            y1, y2 = self.source.middle, self.target.middle
            return f"M{x:.0f} {y1:.0f}C{x - bend:.0f} {y1:.0f} {x - bend:.0f} {y2:.0f} {x:.0f} {y2:.0f}"
        x1, y1, x2, y2 = self.source.x + self.source.width, self.source.middle, self.target.x, self.target.middle
        half = (x1 + x2) / 2
        return f"M{x1:.0f} {y1:.0f}C{half:.0f} {y1:.0f} {half:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"


@dataclass(slots=True, kw_only=True)
class EvidenceGraph:
    """Boxes and lines, the size of the drawing, and the broken links in words."""

    nodes: list[GraphNode] = field(default_factory=list)
    edges: list[GraphEdge] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    broken: list[str] = field(default_factory=list)
    others: int = 0

    def add(self, node: GraphNode) -> GraphNode:
        """A box, once per key."""
        known = next((n for n in self.nodes if n.key == node.key), None)
        if known is None:
            self.nodes.append(node)
        return known or node

    def link(self, source: GraphNode, target: GraphNode, *, broken: bool = False, weak: bool = False, why: str) -> None:
        """A line; a broken one is told in words too."""
        self.edges.append(GraphEdge(source=source, target=target, broken=broken, weak=weak, why=why))
        if broken:
            self.broken.append(why)


def evidence_graph(view: TrajectoryView) -> EvidenceGraph:
    """The graph of a trajectory."""
    graph = EvidenceGraph()
    question = view.question
    asked = view.wording or f"question {view.trajectory.question_id}"
    root = graph.add(_node("question", "question", "plain", asked, "question"))
    shown = {p.id: (card.number, p) for card in reversed(view.cards) for p in reversed(card.passages)}
    cited = {c.passage_id for card in view.cards for c in card.citations if c.passage_id in shown}

    def passage_node(passage_id: str) -> GraphNode:
        if passage_id not in shown:
            return graph.add(_node(f"p:{passage_id}", "passage", "missing", passage_id, "never shown"))
        turn, passage = shown[passage_id]
        state: NodeState = "good" if passage.gold else "plain"
        note = f"[{passage.number}] turn {turn}{', gold' if passage.gold else ''}"
        full = f"{passage.title}: {passage.text}"
        return graph.add(_node(f"p:{passage_id}", "passage", state, passage.title or passage_id, note, full))

    hops = [
        graph.add(_node(f"h:{i}", "hop", "plain", hop.question, f"hop {i + 1}: {' / '.join(hop.answers[:2])}"))
        for i, hop in enumerate(question.hops if question else ())
    ]
    covered: set[str] = set()
    for i, hop in enumerate(question.hops if question else ()):
        graph.link(root, hops[i], why=f"hop {i + 1} of the question")
        for before in hop.depends_on:
            if 0 <= before < len(hops):
                graph.link(hops[before], hops[i], weak=True, why=f"hop {i + 1} needs the answer of hop {before + 1}")
        if hop.supporting_id is not None:
            covered.add(hop.supporting_id)
            found = hop.supporting_id in shown
            why = f"hop {i + 1} is supported by {_name(shown, hop.supporting_id)}"
            node = passage_node(hop.supporting_id)
            graph.link(hops[i], node, broken=not found, why=why if found else f"{why}, which was never shown")
    for passage_id in question.supporting_ids if question else ():
        if passage_id not in covered:
            found = passage_id in shown
            why = f"{_name(shown, passage_id)} supports the answer"
            graph.link(root, passage_node(passage_id), broken=not found, why=why if found else f"{why}: never shown")

    last = view.cards[-1] if view.cards else None
    answer_text = view.trajectory.final_answer
    if answer_text is None:
        answer = graph.add(_node("answer", "answer", "missing", view.trajectory.finish_reason, "no answer"))
    else:
        state = "plain" if view.em is None else "good" if view.em == 1 else "bad"
        note = {"good": "right", "bad": "wrong", "plain": "answer"}[state]
        answer = graph.add(_node("answer", "answer", state, answer_text, note))  # type: ignore[arg-type]
    for citation in last.citations if last and answer_text is not None else ():
        key = f"c:{citation.number}"
        if citation.passage_id is None:
            node = graph.add(_node(key, "citation", "bad", f"[{citation.number}]", "unknown"))
            why = f"the answer cites [{citation.number}], but nothing was shown under that number"
            graph.link(node, answer, broken=True, why=why)
            continue
        known_gold = bool(question and question.supporting_ids)
        node_state: NodeState = "good" if citation.gold else "weak" if known_gold else "plain"
        node = graph.add(_node(key, "citation", node_state, f"[{citation.number}]", "cited"))
        is_weak = known_gold and not citation.gold
        why = f"[{citation.number}] is {_name(shown, citation.passage_id)}{', no gold support' if is_weak else ''}"
        graph.link(passage_node(citation.passage_id), node, weak=is_weak, why=why)
        graph.link(node, answer, weak=is_weak, why=f"the answer cites [{citation.number}]")
    for passage_id, (_, passage) in shown.items():
        if passage.gold and passage_id not in cited and answer_text is not None and _cites(view):
            why = f"{_name(shown, passage_id)} is gold and was shown, but the answer does not cite it"
            graph.link(passage_node(passage_id), answer, broken=True, why=why)
    if not any(edge.target is answer for edge in graph.edges):
        _hang_answer(graph, root, answer, view)
    graph.others = len(shown) - sum(node.kind == "passage" and node.state != "missing" for node in graph.nodes)
    _lay_out(graph)
    return graph


def _cites(view: TrajectoryView) -> bool:
    return any(card.citations for card in view.cards)


def _hang_answer(graph: EvidenceGraph, root: GraphNode, answer: GraphNode, view: TrajectoryView) -> None:
    """An answer that cites nothing hangs on what gold was shown, faintly, or on the question alone."""
    gold = [node for node in graph.nodes if node.kind == "passage" and node.state == "good"]
    if answer.state == "missing":
        graph.link(gold[-1] if gold else root, answer, broken=True, why="the episode ended without an answer")
        return
    for node in gold:
        graph.link(node, answer, weak=True, why=f"{node.label} was shown; the answer cites nothing")
    if not gold:
        known = bool(view.question and view.question.supporting_ids)
        why = "the answer rests on no gold passage" if known else "the answer cites nothing"
        graph.link(root, answer, broken=known, weak=not known, why=why)


def _name(shown: dict, passage_id: str) -> str:  # type: ignore[type-arg]
    return f"“{shown[passage_id][1].title or passage_id}”" if passage_id in shown else f"passage {passage_id}"


def _node(key: str, kind: NodeKind, state: NodeState, label: str, note: str, full: str | None = None) -> GraphNode:
    width = _WIDTHS[kind]
    return GraphNode(
        key=key,
        kind=kind,
        state=state,
        label=" ".join(label.split()),
        lines=_wrapped(label, width - 20),
        note=_cut(note, width * 1.08),
        full=(full or label)[:600],
        width=width,
    )


def _wrapped(text: str, width: float) -> tuple[str, ...]:
    """One or two lines that fit a width, the rest cut off."""
    most = int(width * _CHARS_PER_PIXEL)
    lines = textwrap.wrap(text, most, max_lines=2, placeholder="…", break_long_words=True) or [""]
    return tuple(line[:most] for line in lines)


def _cut(text: str, width: float) -> str:
    most = int(width * _CHARS_PER_PIXEL)
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _lay_out(graph: EvidenceGraph) -> None:
    """Columns from left to right, each centred; a box stands near those that it is linked from."""
    columns: list[list[GraphNode]] = [[n for n in graph.nodes if n.kind == kind] for kind in COLUMNS]
    tallest = max(map(len, columns))
    graph.height = _TOP + tallest * _ROW + 6
    x = 14.0
    for kind, column in zip(COLUMNS, columns, strict=True):
        if not column:
            continue
        if kind in ("passage", "citation"):
            column.sort(key=lambda node: _pull(graph.edges, node))
        start = _TOP + (tallest - len(column)) * _ROW / 2
        for row, node in enumerate(column):
            node.x, node.y = x, start + row * _ROW + (_ROW - _HEIGHT) / 2
        x += _WIDTHS[kind] + _GAP
    graph.width = x - _GAP + 14


def _pull(edges: Sequence[GraphEdge], node: GraphNode) -> float:
    heights = [edge.source.middle for edge in edges if edge.target is node and edge.source.x < node.x + 1]
    return sum(heights) / len(heights) if heights else 1e6
