"""docs/hackability.md tells the cheats, the known pairs of rewards and of recipes, and the repairs as the code does."""

import re

from benchmarks.red_team.known import KNOWN, REPAIRS
from benchmarks.red_team.known_recipes import KNOWN_RECIPES
from envs.policies.registry import CHEATS
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "hackability.md").read_text(encoding="utf-8")


def test_every_cheat_has_a_row() -> None:
    section = PAGE.split("## Scripted cheats\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == set(CHEATS)


def test_every_known_pair_has_a_row_with_its_repair() -> None:
    section = PAGE.split("## What rewards cannot stop, and what does\n")[1].split("\n## ")[0]
    rows = [tuple(re.findall(r"`(\w+)`", row)) for row in section.splitlines() if row.startswith("| `")]
    assert [(row[0], row[-1]) for row in rows] == [(known.reward, known.repair) for known in KNOWN]
    for row, known in zip(rows, KNOWN, strict=True):
        named = set(row[1:-1])
        assert named <= set(known.cheats) and (len(known.cheats) > 2 or named == set(known.cheats))
    assert set(re.findall(r"^- `(\w+)`:", section, re.M)) == set(REPAIRS)


def test_every_known_pair_of_a_recipe_has_a_row() -> None:
    section = PAGE.split("## Recipes under attack\n")[1].split("\n## ")[0]
    rows = [row.split("|")[1:3] for row in section.splitlines() if row.startswith("| `")]
    named = [(recipe.strip(" `"), tuple(sorted(re.findall(r"`(\w+)`", cheats)))) for recipe, cheats in rows]
    assert named == [(known.recipe, tuple(sorted(known.cheats))) for known in KNOWN_RECIPES]


def test_there_are_marks_for_attacks_alone_and_under_every_repair() -> None:
    for mark in ("alone", *REPAIRS):
        assert PAGE.count(f"<!-- hackability:{mark} -->") == PAGE.count(f"<!-- /hackability:{mark} -->") == 1
