"""Which passages give a question away: what noise leaves out, and what tells passages of one title apart."""

from envs.policies.context import occurs_in
from envs.question import Question
from retrieval.passage import Passage


def gives_it_away(passage: Passage, question: Question) -> bool:
    """True if a passage supports the question, or says an answer of it or of one of its hops."""
    if passage.id in question.supporting_ids:
        return True
    answers = (*question.golden_answers, *(answer for hop in question.hops for answer in hop.answers))
    text = Passage(id=passage.id, title=passage.title.casefold(), text=passage.text.casefold())
    return any(occurs_in(answer.casefold(), [text]) for answer in answers if answer)
