"""Which question each unit asks: every epoch is a fresh seeded permutation."""

from collections.abc import Sequence

import numpy as np

from envs.question import Question


class QuestionOrder:
    """The question of each unit, by its number."""

    def __init__(self, questions: Sequence[Question], *, seed: int) -> None:
        if not questions:
            raise ValueError("there is no question to train on")
        self._questions = questions
        self._seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def __getitem__(self, number: int) -> Question:
        """The question of a unit, counted from 0; there is no last one."""
        epoch, position = divmod(number, len(self._questions))
        if epoch != self._epoch:
            self._permutation = np.random.default_rng([self._seed, epoch]).permutation(len(self._questions))
            self._epoch = epoch
        return self._questions[int(self._permutation[position])]
