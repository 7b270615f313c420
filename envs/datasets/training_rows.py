"""Rows that verl and SkyRL train on: a prompt and a rule's ground truth.

verl: `reward_model.ground_truth` (`{"target": [...]}`, a list or a text); SkyRL: `reward_spec.ground_truth`. The
question is the column `question` where there is one (Search-R1's files have it), else what follows the last `Question:`
of the prompt's last message, else that message. The prompt itself is not taken: an evaluation's protocol writes its
own. Files of several sets (Search-R1's) give each set's first question the id `test_0`, so `data_source` begins an id.
"""

from typing import Any

from envs.datasets.row_fields import distinct, id_of, texts_of
from envs.datasets.rows import Row
from envs.question import Question

_ASKED = "Question:"


def parse_training_row(row: Row, number: int) -> Question:
    """One row.

    Raises:
        ValueError: there is no question or no ground truth in it.
    """
    extra = row.get("extra_info") if isinstance(row.get("extra_info"), dict) else {}
    assert isinstance(extra, dict)
    source = str(row.get("data_source") or "question")
    named = id_of(row, "id", "uid", otherwise="")
    return Question(
        id=named if named and not row.get("data_source") else f"{source}-{named or extra.get('index', number)}",
        text=_question(row, extra),
        golden_answers=_golds(row),
        kind=source if row.get("data_source") else None,
        split=extra.get("split") or None,
    )


def _question(row: Row, extra: dict[str, Any]) -> str:
    for given in (row.get("question"), extra.get("question")):
        if isinstance(given, str) and given.strip():
            return given.strip()
    prompt = row.get("prompt")
    if isinstance(prompt, list):
        users = [message for message in prompt if isinstance(message, dict) and message.get("role") == "user"]
        prompt = users[-1].get("content") if users else None
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("there is no question: neither a column of that name nor a prompt with a message of the user")
    return prompt.rpartition(_ASKED)[2].strip() or prompt.strip()


def _golds(row: Row) -> tuple[str, ...]:
    rule = row.get("reward_model") or row.get("reward_spec")
    if not isinstance(rule, dict) or "ground_truth" not in rule:
        raise ValueError(f"reward_model (or reward_spec) must hold ground_truth, got {rule!r}")
    truth = rule["ground_truth"]
    if isinstance(truth, dict):
        truth = truth.get("target", truth.get("answer"))
    return distinct(texts_of(truth, "ground_truth"))
