"""2WikiMultihopQA's own files (`dev.json`, `train.json`) and its rows on the hub.

`evidences` are triples; each is a hop whose question is `subject >> relation` and whose answer is the object. Its
support is the subject's page, where that is among the supporting facts. A hop whose subject an earlier one found
depends on it.
"""

from envs.datasets.hotpotqa import titles_of
from envs.datasets.row_fields import distinct, id_of, text_of, texts_of, unpacked
from envs.datasets.rows import Row
from envs.question import Hop, Question


def parse_two_wiki(row: Row, number: int) -> Question:
    """One row.

    Raises:
        ValueError: a column is missing or holds something else.
    """
    titles = titles_of(row.get("supporting_facts"))
    triples = unpacked(row.get("evidences"), "evidences") or []
    hops: list[Hop] = []
    for triple in triples:
        parts = list(triple.values()) if isinstance(triple, dict) else triple
        if not isinstance(parts, list) or len(parts) != 3 or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"evidences must be a list of [subject, relation, object], got {triple!r}")
        subject, relation, found = parts
        hops.append(
            Hop(
                question=f"{subject} >> {relation}",
                answers=(found,),
                supporting_id=subject if subject in titles else None,
                depends_on=tuple(i for i, hop in enumerate(hops) if subject in hop.answers),
                triple=(subject, relation, found),
            )
        )
    return Question(
        id=id_of(row, "_id", "id", otherwise=f"2wikimultihopqa-{number:05d}"),
        text=text_of(row, "question"),
        golden_answers=distinct(texts_of(row.get("answer"), "answer")),
        kind=row.get("type") or None,
        supporting_ids=titles,
        hops=tuple(hops),
    )
