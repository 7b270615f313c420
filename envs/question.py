"""A question as every reader yields it and every room reads it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One step of a question's decomposition.

    `question` may refer to the answer of an earlier hop as `#1` (hops count from 1); `depends_on` holds the indices of
    those hops, counted from 0. `supporting_id` and `triple` (subject, relation, object) are None where not annotated.
    """

    question: str
    answers: tuple[str, ...]
    supporting_id: str | None = None
    depends_on: tuple[int, ...] = ()
    triple: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with what is annotated about it; what is not annotated is empty or None.

    `kind` is the dataset's own type (bridge, comparison, ...). `split_group` joins questions that must stay on one side
    of a split. `selection` is kept from pooled benchmark files (`complete` or `filtered`).
    """

    id: str
    text: str
    golden_answers: tuple[str, ...]
    kind: str | None = None
    supporting_ids: tuple[str, ...] = ()
    hops: tuple[Hop, ...] = ()
    paraphrases: tuple[str, ...] = ()
    split: str | None = None
    split_group: str | None = None
    selection: str | None = None

    def wording(self, view: int) -> str:
        """The text asked under a view: 0 is the question itself, i > 0 its paraphrase i - 1.

        Raises:
            IndexError: the question has no such paraphrase.
        """
        return self.text if view == 0 else self.paraphrases[view - 1]
