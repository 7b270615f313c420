"""nDCG and MRR as trec_eval computes them: the numbers that other people's tables hold."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

CUTOFF = 10
"""The depth of nDCG and MRR."""


def ranking_measures(
    rankings: Sequence[Sequence[str]], golds: Sequence[AbstractSet[str]], cutoff: int = CUTOFF
) -> dict[str, NDArray[np.float64]]:
    """`ndcg@C` and `mrr@C` of each ranking, `[num_rankings]` in 0 to 1, by pytrec_eval with binary relevance.

    `rankings` hold passage ids, best first; `golds` the relevant ids of each, found or not. nDCG (Järvelin and
    Kekäläinen, 2002) divides by the best ranking of all golds; MRR is 1 / rank of the first gold. What stands below the
    cutoff counts as not found.

    Raises:
        ValueError: another number of rankings than of golds, or a ranking without any gold.
    """
    import pytrec_eval

    if len(rankings) != len(golds):
        raise ValueError(f"there are {len(rankings)} rankings for {len(golds)} sets of golds; give one for each")
    if not all(golds):
        raise ValueError("a ranking has no gold passage; leave out what is not annotated")
    # trec_eval wants names without spaces and ranks by score: so golds become g0, g1, ..., and places become scores.
    relevant: dict[str, dict[str, int]] = {}
    runs: dict[str, dict[str, float]] = {}
    for number, (ranked, gold) in enumerate(zip(rankings, golds, strict=True)):
        names = {passage_id: f"g{i}" for i, passage_id in enumerate(sorted(gold))}
        relevant[str(number)] = dict.fromkeys(names.values(), 1)
        places = enumerate(ranked[:cutoff])
        runs[str(number)] = {names.get(name, f"other{place}"): float(-place) for place, name in places} or {"none": 0.0}
    evaluator = pytrec_eval.RelevanceEvaluator(relevant, {f"ndcg_cut.{cutoff}", "recip_rank"})
    found = evaluator.evaluate(runs)
    return {
        f"{ours}@{cutoff}": np.asarray(
            [found[str(number)][theirs] for number in range(len(rankings))], dtype=np.float64
        )
        for ours, theirs in (("ndcg", f"ndcg_cut_{cutoff}"), ("mrr", "recip_rank"))
    }
