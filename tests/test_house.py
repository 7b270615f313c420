"""The house keeps its shape: imports go down the floors, files stay small, and every file is named after one noun."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FLOORS = ("retrieval", "agent", "envs", "rewards", "evaluation", "train", "scripts")
"""From the ground up: a file may import from its own folder and from those before it."""
MAX_LINES = 350
READS_OR_WAITS = (
    *("asyncio", "concurrent", "multiprocessing", "subprocess", "threading", "time"),
    *("io", "os", "pathlib", "shutil", "http", "httpx", "requests", "socket", "urllib"),
    *("retrieval.batcher", "retrieval.index", "retrieval.passage_store"),
)
FORBIDDEN_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "misc"})


def sources(root: Path, folders: tuple[str, ...] = FLOORS) -> list[Path]:
    return sorted(path for folder in folders for path in (root / folder).rglob("*.py"))


def imported_modules(path: Path, *, when_loaded: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, those inside functions too; with `when_loaded` those that run at import alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
            if not node.level:
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif not (when_loaded and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types_only(node))):
            waiting.extend(ast.iter_child_nodes(node))


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def upward_imports(root: Path) -> list[str]:
    """Every import that goes up a floor, into a folder off the floors (tests, benchmarks), or is relative."""
    wrong = []
    for path in sources(root):
        floor = FLOORS.index(path.relative_to(root).parts[0])
        for line, module in imported_modules(path):
            folder = module.split(".", 1)[0]
            goes_up = folder in FLOORS and FLOORS.index(folder) > floor
            if goes_up or module.startswith(".") or folder in ("tests", "benchmarks"):
                wrong.append(f"{path.relative_to(root)}:{line} imports {module}")
    return sorted(set(wrong))


def modules(root: Path) -> dict[str, Path]:
    """The file of every module of ours."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in sources(root)
    }


def needed_modules(root: Path, module: str) -> set[str]:
    """All that a module imports itself or through modules of ours, those of other packages without what they need."""
    files, needed, waiting = modules(root), set[str](), [module]
    while waiting:
        path = files.get(waiting.pop())
        found = {name for _, name in imported_modules(path)} - needed if path else set()
        needed |= found
        waiting += found
    return needed


def inputs_and_waits(root: Path, module: str) -> list[str]:
    """What a module needs that reads, writes or waits, and where its own lines open a file or await something."""
    imports = sorted(
        name
        for name in needed_modules(root, module)
        if any(name == taboo or name.startswith(f"{taboo}.") for taboo in READS_OR_WAITS)
    )
    waiting = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    lines = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(modules(root)[module].read_text(encoding="utf-8")))
        if isinstance(node, waiting)
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "print"))
    ]
    return imports + lines


def import_cycles(root: Path) -> list[str]:
    """Modules that need each other while they are being imported, as `a -> b -> a`."""
    names = modules(root)
    needs = {
        name: {module for _, module in imported_modules(path, when_loaded=True) if module in names and module != name}
        for name, path in names.items()
    }
    cycles: list[str] = []
    done: set[str] = set()

    def walk(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            cycles.append(" -> ".join((*above[above.index(name) :], name)))
        elif name not in done:
            for needed in sorted(needs[name]):
                walk(needed, (*above, name))
            done.add(name)

    for name in sorted(names):
        walk(name, ())
    return cycles


def test_imports_go_down_the_floors_or_stay_in_their_folder() -> None:
    assert upward_imports(REPOSITORY) == []


def test_no_two_modules_need_each_other_to_be_imported() -> None:
    assert import_cycles(REPOSITORY) == []


def test_the_search_environment_reads_nothing_and_never_waits() -> None:
    assert inputs_and_waits(REPOSITORY, "envs.search_env") == []
    assert "agent.observation" in needed_modules(REPOSITORY, "envs.search_env"), "what it needs must be looked at"
    assert "retrieval.batcher" not in needed_modules(REPOSITORY, "envs.search_env")
    assert {"asyncio"} <= set(inputs_and_waits(REPOSITORY, "envs.episode")), "the coroutine around it waits"


def judges_in_reach(root: Path, folder: str) -> list[str]:
    """What of `rewards.judge` a folder's modules import or name in a text, by themselves or through modules of ours."""
    files, seen, found = modules(root), set[str](), list[str]()
    waiting = [module for module in files if module.split(".")[0] == folder]
    while waiting:
        module = waiting.pop()
        if module in seen or module not in files:
            continue
        seen.add(module)
        needs = [name for _, name in imported_modules(files[module])]
        texts = [
            node.value for node in ast.walk(ast.parse(files[module].read_text())) if isinstance(node, ast.Constant)
        ]
        named = [text for text in texts if isinstance(text, str) and " " not in text]
        found += [f"{module}: {name}" for name in (*needs, *named) if f"{name}.".startswith("rewards.judge.")]
        waiting += [module.rpartition(".")[0], *needs]
    return sorted(found)


def test_evaluation_cannot_reach_a_judge() -> None:
    assert judges_in_reach(REPOSITORY, "evaluation") == []
    assert "rewards.citation" in needed_modules(REPOSITORY, "evaluation.metrics"), "what it needs must be looked at"


@pytest.mark.parametrize(
    "reward",
    [
        "from rewards.judge import open_judge",
        "def later():\n    from rewards.judge.opening import open_judge",
        "import rewards.judge.rules",
        "from rewards import judge",
        "import importlib\nopened = importlib.import_module('rewards.judge')",
    ],
)
def test_the_check_for_judges_sees_one_behind_a_reward(tmp_path: Path, reward: str) -> None:
    for folder, name, text in (
        ("evaluation", "metrics", "from rewards.answer import f1"),
        ("rewards", "answer", reward),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(text)
    assert judges_in_reach(tmp_path, "evaluation")


def test_no_source_file_is_longer_than_a_reader_can_hold() -> None:
    everywhere = sources(REPOSITORY, (*FLOORS, "tests", "benchmarks"))
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text().splitlines()) for path in everywhere}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    everywhere = sources(REPOSITORY, (*FLOORS, "tests", "benchmarks"))
    words = {str(path.relative_to(REPOSITORY)): set(path.stem.split("_")) for path in everywhere}
    assert [name for name, parts in words.items() if parts & FORBIDDEN_NAMES] == []


def test_every_folder_with_sources_is_a_package() -> None:
    folders = {path.parent for path in sources(REPOSITORY)}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("from train.run import train", True),
        ("import rewards", True),
        ("def later():\n    from evaluation import metrics", True),
        ("from ..train import loop", True),
        ("from tests.conftest import DATA", True),
        ("from retrieval.passage import Passage", False),
        ("from agent.action import Action", False),
        ("import json", False),
    ],
)
def test_the_floor_check_sees_an_import_that_goes_up(tmp_path: Path, statement: str, wrong: bool) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "speech.py").write_text(statement)
    assert bool(upward_imports(tmp_path)) is wrong


@pytest.mark.parametrize(
    ("environment", "protocol", "found"),
    [
        ("import asyncio", "", ["asyncio"]),
        ("from agent.speech import say", "import threading", ["threading"]),
        ("from agent import speech", "def later():\n    from retrieval.index import open_index", ["retrieval.index"]),
        ("async def act(): ...", "", ["line 1"]),
        ("x = 1\ny = open('notes')", "", ["line 2"]),
        ("import re\nfrom agent.speech import say", "import json", []),
    ],
)
def test_the_check_for_input_sees_what_comes_through_another_module(
    tmp_path: Path, environment: str, protocol: str, found: list[str]
) -> None:
    for folder, name, text in (("envs", "search_env", environment), ("agent", "speech", protocol)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(text)
    assert [name for name in inputs_and_waits(tmp_path, "envs.search_env") if not name.endswith("open_index")] == found


def test_the_cycle_check_sees_a_cycle_and_forgives_a_late_import(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "one.py").write_text("from agent.two import x")
    (tmp_path / "agent" / "two.py").write_text("from agent import one")
    assert import_cycles(tmp_path) == ["agent.one -> agent.two -> agent.one"]
    (tmp_path / "agent" / "two.py").write_text("def later():\n    from agent import one")
    assert import_cycles(tmp_path) == []
