"""Questions and episodes to score, made from a seed: searches with words of what they look for, thoughts, citations.

Every annotation that a reward may need is there: supports, hops with triples, two wordings, and the statements that
some protocols ask for. The samples of a unit say much the same, as those of a trained policy do.
"""

import random
from collections.abc import Sequence

from agent.action import Action, ToolRequest
from agent.trajectory import Shown, ToolCall, Trajectory, Turn, Unit
from envs.question import Hop, Question
from retrieval.passage import Hit, Passage


def make_corpus(num_passages: int, num_words: int, rng: random.Random) -> list[Passage]:
    """Passages of `num_words` words from a vocabulary with a long tail."""
    vocabulary = [f"{rng.choice('bdfgklmnprstv')}{rng.choice('aeiou')}{i}" for i in range(max(2000, num_passages // 4))]
    return [
        Passage(
            id=str(i),
            title=f"Entity {i}",
            text=" ".join(vocabulary[min(int(rng.paretovariate(0.6)), len(vocabulary)) - 1] for _ in range(num_words)),
        )
        for i in range(num_passages)
    ]


def make_question(index: int, supports: Sequence[Passage]) -> Question:
    """A question of one hop a support; its answer is the title of the last one."""
    about = [" ".join(passage.text.split()[:3]) for passage in supports]
    return Question(
        id=str(index),
        text=f"What comes of {' and of '.join(about)}?",
        golden_answers=(supports[-1].title, f"the {supports[-1].title}"),
        supporting_ids=tuple(passage.id for passage in supports),
        hops=tuple(
            Hop(
                question=f"What comes of {words}?",
                answers=(passage.title,),
                supporting_id=passage.id,
                depends_on=(i - 1,) if i else (),
                triple=(words, "comes_of", passage.title),
            )
            for i, (words, passage) in enumerate(zip(about, supports, strict=True))
        ),
        paraphrases=(f"Of {' and '.join(about)}, what is known to come?",),
    )


def make_unit(
    question: Question, corpus: Sequence[Passage], *, size: int, num_searches: int, k: int, rng: random.Random
) -> Unit:
    """`size` episodes under two wordings in turn, with `num_searches` searches of `k` passages and an answer each.

    Their passages come from a pool of `3 * num_searches * k` that the question has in common, its supports among them.
    """
    supports = [corpus[int(i)] for i in question.supporting_ids]
    pool = [*supports, *rng.sample(corpus, min(len(corpus), 3 * num_searches * k) - len(supports))]
    trajectories = []
    for sample in range(size):
        numbers: dict[str, int] = {}
        turns: list[Turn] = []
        for _ in range(num_searches):
            passages = list(dict.fromkeys(rng.choices(pool, k=2 * k)))[:k]
            asked = passages[0].text.split()
            query = " ".join(asked[: rng.choice((3, 4, 5))])
            hits = tuple(Hit(passage=p, score=1.0, rank=r) for r, p in enumerate(passages, start=1))
            call = ToolCall(tool="search", argument=query, hits=hits, status="ok", latency_s=0.0)
            shown = tuple(Shown(number=numbers.setdefault(p.id, len(numbers) + 1), passage_id=p.id) for p in passages)
            action = Action(
                kind="call",
                thought=f"I still have to find {query}.",
                requests=(ToolRequest(tool="search", argument=query),),
                goal=f"what comes of {query}",
                judgement=rng.random() < 0.5 if turns else None,
                reflection=rng.random() < 0.5 if turns else None,
            )
            turns.append(_turn(action, calls=(call,), shown=shown))
        answer = rng.choice((question.golden_answers[0], question.golden_answers[0], f"the Entity {sample}"))
        thought = f"{supports[0].title} is of {' '.join(supports[0].text.split()[:8])}, so it comes to {answer}."
        last = Action(kind="answer", thought=thought, answer=answer, citations=(1, 2, 2, 99), judgement=True)
        turns.append(_turn(last))
        view = sample % 2
        trajectories.append(
            Trajectory(
                id=f"{question.id}-{sample}",
                question_id=question.id,
                view=view,
                unit_id=question.id,
                group_id=f"{question.id}-view{view}",
                sample=sample,
                prompt_ids=(1,),
                turns=tuple(turns),
                finish_reason="answered",
            )
        )
    return Unit(kind="paraphrase_set", trajectories=tuple(trajectories))


def _turn(action: Action, calls: tuple[ToolCall, ...] = (), shown: tuple[Shown, ...] = ()) -> Turn:
    return Turn(action_ids=(1,), action_logprobs=(0.0,), action_versions=(0,), action=action, calls=calls, shown=shown)
