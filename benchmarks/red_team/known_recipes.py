"""Which cheats a recipe, as it is trained, pays more than honest failures, and why.

`KNOWN_RECIPES` is the one list, of the tests' world; tests hold that each pair fails, that no other does, and that all
are below right episodes. Only pay that asks for a right answer first keeps a recipe out of it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRecipe:
    """Cheats that a recipe pays more than honest failures at equal turns, and why."""

    recipe: str
    cheats: tuple[str, ...]
    reason: str


_REPEATS = ("near_duplicator", "query_repeater")
_WRONG_IN_FORM = (
    *("always_true", "always_yes", "citation_stuffer", "generic_answerer", "passage_copier", "question_copier"),
    "refuser",
)

KNOWN_RECIPES: tuple[KnownRecipe, ...] = (
    KnownRecipe(
        recipe="hops_normalised",
        cheats=("endless_searcher",),
        reason="hops are paid whether or not it ever answers, and it finds all of them",
    ),
    KnownRecipe(
        recipe="hops_per_turn",
        cheats=("endless_searcher", "query_spammer"),
        reason="the same",
    ),
    KnownRecipe(
        recipe="ikea",
        cheats=(*_WRONG_IN_FORM, *_REPEATS, "query_spammer", "endless_searcher"),
        reason="what is wrong in good form has 0.05, answered or not, and a turn without a thought costs an honest "
        "episode all",
    ),
    KnownRecipe(
        recipe="inforage",
        cheats=(*_REPEATS, "generic_answerer"),
        reason="coverage asks for an answer, not for a right one; F1 pays shared words, and 'of' is one in the second "
        "form of many answers ('Creek of Toldun')",
    ),
    KnownRecipe(
        recipe="nuggets",
        cheats=("endless_searcher",),
        reason="what was read counts half, whether or not it ever answers",
    ),
    KnownRecipe(
        recipe="ps_grpo",
        cheats=(
            *(cheat for cheat in _WRONG_IN_FORM if cheat != "refuser"),
            *("empty_thinker", "forger", "guesser", "unread_citer", *_REPEATS),
        ),
        reason="the same wrong answer to all wordings has all of the consistency; refusals alone count for unlike",
    ),
    KnownRecipe(
        recipe="r3_rag",
        cheats=("endless_searcher",),
        reason="relevant searches are paid without an answer, and a little better than before a wrong one",
    ),
    KnownRecipe(
        recipe="re_searcher",
        cheats=_REPEATS,
        reason="good form has 0.2 for any answer, and honest failures of as many turns do not always answer",
    ),
    KnownRecipe(
        recipe="search_r1",
        cheats=_REPEATS,
        reason="the same",
    ),
    KnownRecipe(
        recipe="slate",
        cheats=("endless_searcher",),
        reason="step scores are summed: each fresh thought with a query that finds something adds up to 2, and no "
        "answer is asked for",
    ),
    KnownRecipe(
        recipe="stepsearch",
        cheats=("endless_searcher", "query_spammer"),
        reason="gains and key words are paid without an answer, and new passages that are of no use cost nothing",
    ),
    KnownRecipe(
        recipe="tearag",
        cheats=(*_REPEATS, "generic_answerer"),
        reason="form and what was found are paid with any answer, F1 as under inforage",
    ),
    KnownRecipe(
        recipe="zerosearch",
        cheats=("generic_answerer",),
        reason="F1, as under inforage",
    ),
)


def known_recipe_pairs() -> frozenset[tuple[str, str]]:
    """The known pairs as (recipe, cheat)."""
    return frozenset((row.recipe, cheat) for row in KNOWN_RECIPES for cheat in row.cheats)
