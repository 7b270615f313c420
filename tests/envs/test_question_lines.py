import json
from pathlib import Path

import pytest
import zstandard

from envs.datasets import QuestionError, read_questions


def test_a_zst_file_that_is_cut_off_is_not_taken_for_a_short_one(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "question": f"What is {i * 7919 % 1009}?"} for i in range(3000)]
    packed = zstandard.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    path = tmp_path / "questions.jsonl.zst"
    path.write_bytes(packed)
    assert len(read_questions(path)) == 3000
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(QuestionError, match=r"the \.zst compression breaks off"):
        read_questions(path)
