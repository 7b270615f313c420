"""HotpotQA's own files (`hotpot_dev_distractor_v1.json`, `..._fullwiki_v1.json`) and its rows on the hub.

`supporting_facts` names sentences of pages; a support here is a page, by its title (`envs.datasets.titles` finds the
corpus's passage). Questions of the test file have no answers.
"""

from typing import Any

from envs.datasets.row_fields import distinct, id_of, text_of, texts_of, unpacked
from envs.datasets.rows import Row
from envs.question import Question


def parse_hotpotqa(row: Row, number: int) -> Question:
    """One row.

    Raises:
        ValueError: a column is missing or holds something else.
    """
    return Question(
        id=id_of(row, "_id", "id", otherwise=f"hotpotqa-{number:05d}"),
        text=text_of(row, "question"),
        golden_answers=distinct(texts_of(row.get("answer"), "answer")),
        kind=row.get("type") or None,
        supporting_ids=titles_of(row.get("supporting_facts")),
    )


def titles_of(facts: Any) -> tuple[str, ...]:
    """Titles of supporting facts, each once: `[[title, sentence], ...]`, or the hub's `{"title": [...]}`.

    Raises:
        ValueError: it is neither.
    """
    facts = unpacked(facts, "supporting_facts")
    if facts is None:
        return ()
    if isinstance(facts, dict):
        return distinct(texts_of(facts.get("title"), "supporting_facts.title"))
    if not isinstance(facts, list) or not all(isinstance(f, list) and f and isinstance(f[0], str) for f in facts):
        raise ValueError(f"supporting_facts must be a list of [title, sentence], got {facts!r}")
    return distinct(fact[0] for fact in facts)
