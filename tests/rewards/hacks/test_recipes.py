"""Every recipe, as it is trained, against every cheat; and what an episode is worth under it, counted by hand.

Where a recipe pays a cheat more than honest failures is in `benchmarks.red_team.known_recipes`, and nowhere else.
"""

import numpy as np
import pytest

from benchmarks.red_team.known_recipes import KNOWN_RECIPES, known_recipe_pairs
from benchmarks.red_team.matrix import RedTeam
from benchmarks.red_team.recipe_matrix import recipe_cells, recipe_record, recipe_table, unexpected_recipes
from benchmarks.red_team.recipes import Recipe, load_recipes, worth
from envs.policies.registry import CHEATS
from train.credit import load_estimator
from train.credit.group import Component, Group
from train.method import method_names

NAN = float("nan")


def recipe(name: str) -> Recipe:
    (found,) = (one for one in load_recipes() if one.name == name)
    return found


@pytest.mark.parametrize("name", method_names())
def test_a_cheat_is_below_right_episodes_and_above_failures_only_where_that_is_known(
    trained_team: RedTeam, name: str
) -> None:
    assert unexpected_recipes(recipe_cells(trained_team, [recipe(name)])) == []


def test_pay_that_asks_for_a_right_answer_first_pays_no_cheat(trained_team: RedTeam) -> None:
    for name in ("outcome", "waymark", "c_grpo", "co_reward", "efficiency", "gated", "sd_e2", "shaping_explanations"):
        for cell in recipe_cells(trained_team, [recipe(name)]):
            assert cell.standing.margin.earned == 0.0, (name, cell.cheat)


def test_the_list_names_recipes_and_cheats_that_exist_and_no_pair_twice() -> None:
    named = [(row.recipe, cheat) for row in KNOWN_RECIPES for cheat in row.cheats]
    assert len(named) == len(set(named)) == len(known_recipe_pairs())
    assert {name for name, _ in named} <= set(method_names()) and {cheat for _, cheat in named} <= set(CHEATS)


def test_recipes_are_those_that_a_setting_has_everything_for() -> None:
    assert [one.name for one in load_recipes()] == method_names()
    assert set(method_names()) - {one.name for one in load_recipes("2hops")} == {"re_searcher", "reseek"}


def test_recipes_are_scored_with_their_own_parameters_gates_and_rule(trained_team: RedTeam) -> None:
    context = trained_team.arena.context
    assert recipe("slate").build(context).rewards["step_quality"].aggregate == "sum"  # type: ignore[attr-defined]
    assert recipe("waymark").build(context).terms["hop_relevance"].gate == ("correct",)
    product = recipe("gated").build(context).rule
    assert product is not None and product.bottom_line == ("format", "citation_precision")


def test_an_episode_is_worth_its_weighted_sum_or_its_product(trained_team: RedTeam) -> None:
    for name in ("tearag", "gated"):
        summed = trained_team.arena.earned_together(recipe(name).build(trained_team.arena.context), trained_team.honest)
        assert np.allclose(recipe(name).earned(trained_team.arena, trained_team.honest), summed)


def group(**components: tuple[float, list[list[float]], list[float]]) -> Group:
    """Components as weight, turns and outcomes, of trajectories of two turns."""
    made = tuple(
        Component(name=name, weight=weight, turns=np.array(turns), outcome=np.array(outcome))
        for name, (weight, turns, outcome) in components.items()
    )
    return Group(trajectories=(), num_turns=np.full(len(made[0].outcome), 2), components=made)


NO_TURNS = [[NAN, NAN], [NAN, NAN]]


def test_c_grpo_pays_rubrics_of_right_answers_alone() -> None:
    one = group(exact_match=(1.0, NO_TURNS, [1.0, 0.0]), citation_rubric=(1.0, NO_TURNS, [0.5, 1.0]))
    assert worth(load_estimator("c_grpo", alpha=0.3), one) == pytest.approx([0.7 + 0.15, 0.0])


def test_renorm_is_the_mean_of_turns_recentred_with_the_outcome() -> None:
    one = group(exact_match=(1.0, NO_TURNS, [1.0, 0.0]), principles=(1.0, [[0.8, NAN], [0.8, NAN]], [NAN, NAN]))
    assert worth(load_estimator("renorm"), one) == pytest.approx([(0.8 + 1.0) / 2, (-0.2 - 1.0) / 2])
    assert worth(load_estimator("renorm", variant="paper"), one) == pytest.approx([1.8, -1.2])


def test_step_tokens_scales_turns_and_not_outcomes() -> None:
    one = group(f1=(1.0, NO_TURNS, [1.0, 0.5]), information_gain=(2.0, [[0.5, 0.0], [NAN, NAN]], [NAN, NAN]))
    assert worth(load_estimator("step_tokens", step_scale=0.6), one) == pytest.approx([1.6, 0.5])


def test_the_matrix_as_table_and_record(trained_team: RedTeam) -> None:
    cells = recipe_cells(trained_team, [recipe("outcome"), recipe("ps_grpo")])
    rows = {line.split()[0]: line for line in recipe_table(cells).splitlines()[1:]}
    assert "+" not in rows["outcome"] and "!" not in rows["outcome"] and rows["ps_grpo"].count("+") == 12
    record = recipe_record(cells)
    assert record["outcome"]["guesser"] == [0.0, 1.0, 0.0, 0.0]
    assert record["columns"] == ["earned", "bar", "percentile", "own_class"]
