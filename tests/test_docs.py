"""The pages hold together: every link leads somewhere, and every page can be found from the README."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]


def links(page: Path) -> list[str]:
    """Targets of a page's links to files, without anchors."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]


def test_every_link_between_pages_leads_to_a_file() -> None:
    broken = [f"{p.name} -> {link}" for p in PAGES for link in links(p) if not (p.parent / link).exists()]
    assert broken == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(REPOSITORY / link).resolve() for link in links(REPOSITORY / "README.md")}
    assert [str(p.relative_to(REPOSITORY)) for p in PAGES if p not in linked and p.name != "README.md"] == []


def test_pages_named_in_the_sources_exist() -> None:
    folders = ("retrieval", "agent", "envs", "rewards", "evaluation", "train", "scripts", "benchmarks", "configs")
    sources = [
        path for folder in folders for path in (REPOSITORY / folder).rglob("*.*") if path.suffix in (".py", ".yaml")
    ]
    named = {
        (page, str(path)) for path in sources for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text("utf-8"))
    }
    assert [(page, path) for page, path in sorted(named) if not (REPOSITORY / page).exists()] == []
