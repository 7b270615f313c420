"""How hard a world is, measured on its files: passage and question length, paraphrases, and what BM25 finds.

Tokens are counted as the tiny policy's tokenizer cuts: a word, a punctuation mark or a syllable of a name is one.
BM25 is bm25s with its defaults, English stopwords and the Snowball stemmer, over title and text.
"""

import random
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import bm25s
import numpy as np
import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from envs.question import Question
from envs.world_names import count_tokens, split_word
from retrieval.passage import Passage

MEASURED_PASSAGES = 200_000
"""Largest corpus that `measure_world` indexes: the index lives in memory."""
_MEASURED_QUESTIONS = 1_000
_QUESTION_WORDS = "who whom whose what which where when how can could do does did you"
_FUNCTION_WORDS = frozenset(STOPWORDS_EN) | frozenset(_QUESTION_WORDS.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldMeasures:
    """What `measure_world` found.

    `passage_tokens_*` are of the text, title aside. Paraphrase figures are means over all pairs of wordings of one
    question: content-word Jaccard without names, and the BM25 top-5 overlap as shared passages of 5 and as Jaccard.
    `single_search_recall@2`: share of questions whose last supporting passage is among the first 2 for the question's
    text; `hop_recall@2`: share of gold sub-questions, earlier answers filled in, that find their support there.
    `num_lower_case_words` counts distinct words without capitals in corpus and questions, numbers included.
    """

    passage_tokens_mean: float
    passage_tokens_max: int
    question_tokens_mean: dict[str, float]
    question_tokens_max: dict[str, int]
    num_lower_case_words: int
    paraphrase_word_jaccard: float
    paraphrase_top5_overlap: float
    paraphrase_top5_jaccard: float
    single_search_recall_at_2: float
    single_search_recall_at_2_by_kind: dict[str, float]
    hop_recall_at_2: float

    def figures(self) -> dict[str, object]:
        """The measures under the keys that the verb writes (`single_search_recall@2`)."""
        return {key.replace("_at_2", "@2"): value for key, value in asdict(self).items()}


def content_words(text: str) -> frozenset[str]:
    """The words of a text that carry its wording: no function words, no names, no numbers, in lower case."""
    words = re.findall(r"[A-Za-z]+", text)
    first, rest = words[:1], words[1:]
    kept = [word.lower() for word in first if split_word(word) is None] + [word for word in rest if word.islower()]
    return frozenset(kept) - _FUNCTION_WORDS


def measure_world(passages: Sequence[Passage], questions: Sequence[Question]) -> WorldMeasures:
    """Measure a corpus and questions on it; of many questions, a fixed random sample."""
    questions = random.Random(0).sample(questions, min(len(questions), _MEASURED_QUESTIONS))
    search = _Bm25(passages)
    passage_tokens = [count_tokens(passage.text) for passage in passages]
    wordings = [(question.text, *question.paraphrases) for question in questions]
    found = [search([*texts], 5) for texts in wordings]
    pairs = [(a, b) for texts in wordings for a, b in combinations(map(content_words, texts), 2)]
    tops = [(a, b) for rows in found for a, b in combinations([set(row) for row in rows], 2)]
    single = [question.supporting_ids[-1] in rows[0][:2] for question, rows in zip(questions, found, strict=True)]
    labels = [f"{question.kind} {len(question.hops)} hops" for question in questions]
    hops = [(_fill(hop.question, question), hop.supporting_id) for question in questions for hop in question.hops]
    hop_found = search([text for text, _ in hops], 2)
    tokens = {
        label: [count_tokens(q.text) for q, own in zip(questions, labels, strict=True) if own == label]
        for label in sorted(set(labels))
    }
    return WorldMeasures(
        passage_tokens_mean=statistics.fmean(passage_tokens),
        passage_tokens_max=max(passage_tokens),
        question_tokens_mean={label: statistics.fmean(counts) for label, counts in tokens.items()},
        question_tokens_max={label: max(counts) for label, counts in tokens.items()},
        num_lower_case_words=len(_lower_case_words(passages, wordings)),
        paraphrase_word_jaccard=statistics.fmean(len(a & b) / len(a | b) for a, b in pairs if a | b),
        paraphrase_top5_overlap=statistics.fmean(len(a & b) / 5 for a, b in tops),
        paraphrase_top5_jaccard=statistics.fmean(len(a & b) / len(a | b) for a, b in tops if a | b),
        single_search_recall_at_2=statistics.fmean(single),
        single_search_recall_at_2_by_kind={
            label: statistics.fmean(hit for hit, own in zip(single, labels, strict=True) if own == label)
            for label in sorted(set(labels))
        },
        hop_recall_at_2=statistics.fmean(support in row for (_, support), row in zip(hops, hop_found, strict=True)),
    )


class _Bm25:
    """The ids of the first k passages for each query, searched in memory."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._stemmer = Stemmer.Stemmer("english")
        self._ids = np.array([passage.id for passage in passages])
        self._index = bm25s.BM25()
        self._index.index(self._tokens([passage.contents for passage in passages]), show_progress=False)

    def __call__(self, queries: list[str], k: int) -> list[list[str]]:
        found, _ = self._index.retrieve(self._tokens(queries), k=k, show_progress=False)
        return [self._ids[row].tolist() for row in found]

    def _tokens(self, texts: list[str]) -> bm25s.tokenization.Tokenized:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self._stemmer, show_progress=False)


def _fill(text: str, question: Question) -> str:
    return re.sub(r"#(\d+)", lambda match: question.hops[int(match[1]) - 1].answers[0], text)


def _lower_case_words(passages: Iterable[Passage], wordings: Iterable[tuple[str, ...]]) -> set[str]:
    texts = [passage.text for passage in passages] + [text for texts in wordings for text in texts]
    words = {word for text in texts for word in re.findall(r"[A-Za-z]+|\d+", text)}
    return {word for word in words if not word[0].isupper()}
