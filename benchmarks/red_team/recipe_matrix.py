"""Every recipe against every cheat: what is trained, and not each reward alone.

A cheat must be below the 25th percentile of right honest episodes at equal turns. Nearly every recipe pays exact match
most, so that a wrong cheat hardly fails by that; so it is also told where one is worth more than honest failures, which
is what a group without a right answer learns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.red_team.known_recipes import known_recipe_pairs
from benchmarks.red_team.matrix import RedTeam, Standing, rounded, text_table
from benchmarks.red_team.recipes import Recipe
from envs.policies.registry import CHEATS

Above = Literal["bar", "failures"]
"""What a cheat is above: the bar of right honest episodes, or only the mean of honest failures."""

_MARKS: dict[Above | None, str] = {None: "", "bar": "!", "failures": "+"}
_WORDS: dict[Above | None, str] = {None: "above nothing", "bar": "not below the bar", "failures": "above failures"}


@dataclass(frozen=True, slots=True)
class RecipeCell:
    """One recipe against one cheat: its standing, and whether it is known to be above honest failures."""

    recipe: str
    cheat: str
    standing: Standing
    is_known: bool

    @property
    def above(self) -> Above | None:
        """What the cheat is above."""
        if not self.standing.margin.is_below:
            return "bar"
        return "failures" if self.standing.favour.is_favoured else None

    @property
    def expected(self) -> Above | None:
        """What it is known to be above."""
        return "failures" if self.is_known else None


def recipe_cells(team: RedTeam, recipes: Iterable[Recipe]) -> list[RecipeCell]:
    """Every pair, recipes outermost."""
    known = known_recipe_pairs()
    return [
        RecipeCell(recipe.name, cheat, recipe_standing(team, recipe, cheat), (recipe.name, cheat) in known)
        for recipe in recipes
        for cheat in CHEATS
    ]


def recipe_standing(team: RedTeam, recipe: Recipe, cheat: str) -> Standing:
    """A cheat under all that a recipe pays."""
    return team.standing(("recipe", recipe.name), cheat, lambda played: recipe.earned(team.arena, played))


def recipe_record(cells: Sequence[RecipeCell]) -> dict[str, Any]:
    """Recipes as JSON values, as `record_of` has rewards; `own_class` is what honest episodes as wrong as it have."""
    found: dict[str, Any] = {"columns": ["earned", "bar", "percentile", "own_class"]}
    for cell in cells:
        margin, favour = cell.standing.margin, cell.standing.favour
        figures = rounded(margin.earned, margin.bar, margin.percentile, favour.own_class)
        found.setdefault(cell.recipe, {})[cell.cheat] = figures
    return found


def recipe_table(cells: Sequence[RecipeCell]) -> str:
    """Percentiles in a table: `!` not below the bar, `+` below it, and worth more than honest failures."""
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        rows.setdefault(cell.recipe, {})[cell.cheat] = f"{cell.standing.margin.percentile:.0f}{_MARKS[cell.above]}"
    return text_table(rows)


def unexpected_recipes(cells: Sequence[RecipeCell]) -> list[str]:
    """Pairs that are not as `KNOWN_RECIPES` has them, in words."""
    return [
        f"{cell.recipe} x {cell.cheat}: earns {cell.standing.margin.earned:.3f}, the bar is "
        f"{cell.standing.margin.bar:.3f}, honest episodes of its own correctness have "
        f"{cell.standing.favour.own_class:.3f}; {_WORDS[cell.above]}, known as {_WORDS[cell.expected]}"
        for cell in cells
        if cell.above != cell.expected
    ]
