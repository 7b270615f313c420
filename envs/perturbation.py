"""One word of a query changed on its way to the retriever: how much hangs on the wording of a search.

RE-Searcher (arXiv:2509.26048) has a language model drop, add or replace a word of an episode's first query and counts
the right answers that are lost. Here the change is drawn from the episode's seed and from tables, so that it comes
again: a content word is dropped; a qualifier that tells nothing new is added; a word is replaced by a near-synonym, or,
where the table has none for any word of the query, by its own singular or plural.
"""

import random
from collections.abc import Awaitable, Callable, Mapping

from envs.actor import stable_seed
from envs.policies.context import FUNCTION_WORD
from retrieval.passage import Hit

_LONG = 4096
"""Characters up to which a query may grow: beyond them a retriever's own limit may be near."""

Search = Callable[[str, int], Awaitable[list[Hit]]]

QUALIFIERS = (
    *("actually", "currently", "exactly", "famous", "full", "information", "known", "name", "official", "original"),
    *("particular", "please", "real", "specific", "first", "main", "overview", "details", "topic"),
)
"""Words that are added."""

_PAIRS = (
    *(("film", "movie"), ("director", "filmmaker"), ("directed", "made"), ("author", "writer"), ("wrote", "authored")),
    *(("written", "authored"), ("book", "novel"), ("born", "birthplace"), ("birth", "born"), ("died", "death")),
    *(("country", "nation"), ("city", "town"), ("company", "firm"), ("founded", "established"), ("founder", "creator")),
    *(("wife", "spouse"), ("husband", "spouse"), ("married", "wed"), ("father", "dad"), ("mother", "mom")),
    *(("song", "track"), ("singer", "vocalist"), ("sang", "performed"), ("performer", "artist"), ("band", "group")),
    *(("actor", "performer"), ("starred", "acted"), ("team", "club"), ("player", "athlete"), ("won", "gained")),
    *(("located", "situated"), ("location", "place"), ("river", "stream"), ("mountain", "peak"), ("lake", "water")),
    *(("university", "college"), ("school", "academy"), ("studied", "educated"), ("president", "leader")),
    *(("king", "monarch"), ("queen", "monarch"), ("ruler", "sovereign"), ("war", "conflict"), ("battle", "fight")),
    *(("large", "big"), ("largest", "biggest"), ("small", "little"), ("old", "aged"), ("year", "date")),
    *(("when", "date"), ("where", "place"), ("who", "person"), ("which", "what"), ("capital", "seat")),
    *(("population", "inhabitants"), ("language", "tongue"), ("religion", "faith"), ("nationality", "citizenship")),
    *(("name", "title"), ("called", "named"), ("part", "portion"), ("begin", "start"), ("began", "started")),
    *(("ended", "finished"), ("built", "constructed"), ("invented", "created"), ("discovered", "found")),
)
NEAR_SYNONYMS: Mapping[str, str] = {other: word for word, other in reversed(_PAIRS)} | dict(_PAIRS)
"""A near-synonym by word, in lower case."""


def drop_word(query: str, rng: random.Random) -> str:
    """The query without one of its content words; one of a single word stays as it is."""
    words = query.split()
    if len(words) < 2:
        return query
    content = [i for i, word in enumerate(words) if not FUNCTION_WORD.fullmatch(word.strip("?.,"))]
    place = rng.choice(content or list(range(len(words))))
    return " ".join(word for i, word in enumerate(words) if i != place)


def add_word(query: str, rng: random.Random) -> str:
    """The query with a qualifier that it does not have yet, at a place drawn at random."""
    words = query.split()
    present = {word.casefold() for word in words}
    word = rng.choice([word for word in QUALIFIERS if word not in present] or list(QUALIFIERS))
    place = rng.randint(0, len(words))
    return " ".join((*words[:place], word, *words[place:]))


def swap_word(query: str, rng: random.Random) -> str:
    """The query with one word replaced by a near-synonym."""
    words = query.split()
    known = [i for i, word in enumerate(words) if word.casefold().strip("?.,") in NEAR_SYNONYMS]
    if known:
        place = rng.choice(known)
        bare = words[place].strip("?.,")
        words[place] = words[place].replace(bare, NEAR_SYNONYMS[bare.casefold()])
        return " ".join(words)
    if not words:
        return query
    longest = max(range(len(words)), key=lambda i: len(words[i].strip("?.,")))
    bare = words[longest].strip("?.,")
    words[longest] = words[longest].replace(bare, bare[:-1] if bare.endswith("s") and len(bare) > 3 else f"{bare}s", 1)
    return " ".join(words)


PERTURBATIONS: Mapping[str, Callable[[str, random.Random], str]] = {
    "drop": drop_word,
    "add": add_word,
    "swap": swap_word,
}
"""By name."""


def perturbed(query: str, name: str, seed: int) -> str:
    """The query with one word changed; the draw follows from `seed`, the kind of change and the query.

    Raises:
        ValueError: no such change.
    """
    if name not in PERTURBATIONS:
        raise ValueError(f"no perturbation is named {name!r}; there are {', '.join(PERTURBATIONS)}")
    return PERTURBATIONS[name](query, random.Random(stable_seed(seed, name, query)))


def perturbed_search(search: Search, name: str, seed: int) -> Search:
    """A search that asks for the perturbed query."""

    async def find(query: str, k: int) -> list[Hit]:
        asked = perturbed(query, name, seed)
        return await search(asked if len(asked) <= max(len(query), _LONG) else query, k)

    return find
