"""A byte tokenizer, nine passages and three questions: the smallest world in which episodes can be played."""

import re
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agent.action import Action, ToolRequest
from agent.engine import Completion
from agent.trajectory import Shown, ToolCall, Turn
from envs.question import Hop, Question
from retrieval.passage import Hit, Passage

EOS = "<|end|>"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that budgets can be counted in characters and decoding is exact."""
    vocabulary = {piece: i for i, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token="<|pad|>")


PASSAGES = tuple(
    Passage(id=id, title=title, text=text)
    for id, title, text in (
        ("velmora", "Velmora", "Velmora is a town. It was founded by Tarnek Osmi in 1204."),
        ("tarnek", "Tarnek Osmi", "Tarnek Osmi was a mason. Tarnek Osmi was born in Quillon Bay."),
        ("quillon", "Quillon Bay", "Quillon Bay is a harbour with 3100 people."),
        ("velmic", "Velmic", "Velmic is a river that ends at Quillon Bay."),
        ("torvane", "Torvane", "Torvane is a town. It was founded by Ilsa Marn in 1350."),
        ("ilsa", "Ilsa Marn", "Ilsa Marn was a weaver. Ilsa Marn was born in Velmora."),
        ("tarn", "Tarn", "Tarn is a lake in the north."),
        ("osmi", "Osmi", "Osmi is a mountain in the east."),
        ("dorel", "Dorel", "Dorel is a bridge over the river Velmic."),
    )
)

BRIDGE = Question(
    id="bridge",
    text="Where was the founder of Velmora born?",
    golden_answers=("Quillon", "Quillon Bay"),
    kind="bridge",
    supporting_ids=("velmora", "tarnek"),
    hops=(
        Hop(
            question="Who founded Velmora?",
            answers=("Tarnek Osmi",),
            supporting_id="velmora",
            triple=("Velmora", "founded_by", "Tarnek Osmi"),
        ),
        Hop(
            question="Where was #1 born?",
            answers=("the Bay", "Quillon Bay"),
            supporting_id="tarnek",
            depends_on=(0,),
            triple=("Tarnek Osmi", "birth_place", "Quillon Bay"),
        ),
    ),
    paraphrases=("In which place did Velmora's founder come into the world?",),
)
COMPARISON = Question(
    id="comparison",
    text="Which town was founded first, Velmora or Torvane?",
    golden_answers=("Velmora",),
    kind="comparison",
    supporting_ids=("velmora", "torvane"),
    hops=(
        Hop(question="When was Velmora founded?", answers=("1204",), supporting_id="velmora"),
        Hop(question="When was Torvane founded?", answers=("1350",), supporting_id="torvane"),
    ),
)


class OverlapRetriever:
    """Ranks passages by the number of query words in them."""

    num_passages = len(PASSAGES)

    def __init__(self) -> None:
        self.queries: list[str] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.queries.extend(queries)
        return [self._one(query, k) for query in queries]

    def _one(self, query: str, k: int) -> list[Hit]:
        words = set(re.findall(r"\w+", query.lower()))
        scored = [(len(words & set(re.findall(r"\w+", p.contents.lower()))), p) for p in PASSAGES]
        best = sorted((pair for pair in scored if pair[0]), key=lambda pair: -pair[0])[:k]
        return [Hit(passage=p, score=float(score), rank=i + 1) for i, (score, p) in enumerate(best)]

    def get(self, passage_id: str) -> Passage:
        return next(p for p in PASSAGES if p.id == passage_id)


def completion(tokenizer: PreTrainedTokenizerFast, text: str, finish: str = "stop") -> Completion:
    """A completion that says `text`; with finish "eos" the end token follows."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    if finish == "eos":
        ids.append(tokenizer.eos_token_id)
    n = len(ids)
    return Completion(token_ids=tuple(ids), logprobs=(-0.5,) * n, versions=(3,) * n, finish=finish)  # type: ignore[arg-type]


def result(query: str, *passage_ids: str) -> ToolCall:
    """A search that brought these passages."""
    by_id = {p.id: p for p in PASSAGES}
    hits = tuple(Hit(passage=by_id[i], score=1.0 / (r + 1), rank=r + 1) for r, i in enumerate(passage_ids))
    return ToolCall(tool="search", argument=query, hits=hits, status="ok" if hits else "empty", latency_s=0.0)


def search_turn(query: str, *passage_ids: str, first_number: int = 1) -> Turn:
    """A turn that searched and was shown these passages, under numbers from `first_number`."""
    call = result(query, *passage_ids)
    action = Action(kind="call", requests=(ToolRequest(tool="search", argument=query),))
    shown = tuple(Shown(number=first_number + i, passage_id=p) for i, p in enumerate(passage_ids))
    return Turn(action_ids=(), action_logprobs=(), action_versions=(), action=action, calls=(call,), shown=shown)
