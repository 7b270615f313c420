"""A unit of branches as a tree: shared turns are drawn once, and every leaf is a trajectory."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.viewer.turn_cards import TrajectoryView

_COLUMN, _ROW, _WIDTH, _HEIGHT = 222, 54, 192, 40


@dataclass(slots=True, kw_only=True)
class TreeNode:
    """One turn of one trajectory (`turn` counts from 1; 0 is the question)."""

    view: TrajectoryView | None
    turn: int
    label: str
    note: str
    x: float
    y: float
    is_leaf: bool
    width: float = _WIDTH
    height: float = _HEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchTree:
    """Boxes and the paths between them."""

    nodes: Sequence[TreeNode]
    paths: Sequence[str]
    width: float
    height: float


def branch_tree(views: Sequence[TrajectoryView]) -> BranchTree:
    """The tree of trajectories of which some branch off others; a parent that is not there leaves a root of its own."""
    by_id = {view.trajectory.id: view for view in views}
    children: dict[str | None, list[TrajectoryView]] = {}
    for view in views:
        parent = view.trajectory.parent_id
        children.setdefault(parent if parent in by_id and parent != view.trajectory.id else None, []).append(view)
    placed: dict[tuple[str, int], TreeNode] = {}
    paths: list[str] = []
    root = TreeNode(view=None, turn=0, label="question", note="", x=10, y=0, is_leaf=False)
    nodes = [root]
    row = 0

    def place(view: TrajectoryView, above: TreeNode, first: int, depth: int) -> None:
        nonlocal row
        y = 10.0 + row * _ROW
        row += 1
        own = above
        cards = view.cards[first:]
        for card in cards:
            action = card.turn.action
            said = action.answer or "; ".join(r.argument for r in action.requests) or action.error or action.kind
            last = card.number == len(view.cards)
            outcome = view.trajectory.finish_reason if view.em is None else "right" if view.em == 1 else "wrong"
            note = f"{card.number}: {action.kind}" + (f", {outcome}" if last else "")
            at = 10.0 + card.number * _COLUMN
            node = TreeNode(view=view, turn=card.number, label=_cut(said), note=note, x=at, y=y, is_leaf=last)
            nodes.append(node)
            placed[view.trajectory.id, card.number] = node
            paths.append(_path(own, node))
            own = node
        for child in children.get(view.trajectory.id, []) if depth < 60 else []:
            fork = max(0, min(child.trajectory.fork_turn or 0, len(view.cards)))
            place(child, placed.get((view.trajectory.id, fork)) or _shared(view, fork) or root, fork, depth + 1)

    def _shared(view: TrajectoryView, turn: int) -> TreeNode | None:
        """The box of a turn that this branch has from one further up."""
        current: TrajectoryView | None = view
        for _ in range(60):
            if current is None or current.trajectory.parent_id is None:
                return None
            current = by_id.get(current.trajectory.parent_id)
            if current is not None and (current.trajectory.id, turn) in placed:
                return placed[current.trajectory.id, turn]
        return None

    for view in children.get(None, []):
        place(view, root, 0, 0)
    root.y = 10.0
    paths = [path for path in paths if path]
    deepest = max((node.turn for node in nodes), default=0)
    return BranchTree(nodes=nodes, paths=paths, width=20 + deepest * _COLUMN + _WIDTH, height=20 + max(1, row) * _ROW)


def _path(above: TreeNode, node: TreeNode) -> str:
    x1, y1 = above.x + above.width, (above.y or 10.0) + above.height / 2
    x2, y2 = node.x, node.y + node.height / 2
    half = x2 - 14
    return f"M{x1:.0f} {y1:.0f}L{half:.0f} {y1:.0f}L{half:.0f} {y2:.0f}L{x2:.0f} {y2:.0f}"


def _cut(text: str, most: int = 22) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
