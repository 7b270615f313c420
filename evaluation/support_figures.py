"""Does an answer name its supports: HotpotQA's and MuSiQue's support figures, their joint ones, and over-citation.

The formulas are those of `hotpot_evaluate_v1.py` (`update_sp` and the joint block) and of MuSiQue's
`metrics/support.py`; they agree, but where nothing was to be named. What is named are the passages that the answer
cites. The data sets' systems name sentences (HotpotQA) or paragraphs (MuSiQue); here both are passages, so that figures
of a corpus of paragraphs equal MuSiQue's, and HotpotQA's are those of its pages.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rewards.answer import answer_overlap, exact_match
from rewards.citation import Citations, citation_precision, citation_recall


class SupportFigures(NamedTuple):
    """Exact match and F1 of the supports named, and of answer and supports together; each in [0, 1]."""

    support_em: float
    support_f1: float
    joint_em: float
    joint_f1: float


def harmonic(precision: float, recall: float) -> float:
    """`2 p r / (p + r)`, 0 where both are 0.

    >>> harmonic(0.5, 1.0)
    0.6666666666666666
    """
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def support_figures(
    citations: Citations, supports: Collection[str], prediction: str | None, golds: Sequence[str]
) -> SupportFigures:
    """The four figures of one answer.

    support_em: 1 if exactly the supports are cited. support_f1: harmonic mean of citation precision and recall.
    joint_em: both answer and supports are exact. joint_f1: harmonic mean of the products of both precisions and both
    recalls. A citation of what was never shown is a wrong one. Joint figures are NaN without golds, all are NaN without
    supports.
    """
    wanted = set(supports)
    if not wanted:
        return SupportFigures(*[float("nan")] * 4)
    precision, recall = citation_precision(citations, wanted), citation_recall(citations, wanted)
    support_em = float(set(citations.passage_ids) == wanted and not citations.unresolved)
    answer = answer_overlap(prediction, golds)
    return SupportFigures(
        support_em=support_em,
        support_f1=harmonic(precision, recall),
        joint_em=support_em * exact_match(prediction, golds),
        joint_f1=float("nan") if not golds else harmonic(answer.precision * precision, answer.recall * recall),
    )


def over_citation(citations: Citations, supports: Collection[str]) -> float:
    """Share of the distinct citations that are more than the question has supports: `max(0, m - n) / m`, in [0, 1).

    m are the distinct citations, those of nothing shown included, n the supports. 0 where nothing is cited, NaN without
    supports. Precision says whether citations are right; this one says whether there are too many of them to be of use.
    """
    wanted, cited = len(set(supports)), len(citations)
    if not wanted:
        return float("nan")
    return max(0, cited - wanted) / cited if cited else 0.0
