"""A policy small enough to train from nothing on two cores: a word-level tokenizer and a Llama of under 1 M weights.

The tokenizer is byte-exact (any text encodes, and `decode(encode(x)) == x`), yet a text of a fictional world costs
about one token a word: frequent words are single tokens, invented names are spelled in the syllables that they are
built from, and what was never seen falls back to bytes. The result is an ordinary Hugging Face folder.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import Unigram
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agent.protocol import AgentProtocol

PAD, EOS = "<|pad|>", "<|end|>"
# Log scores of a syllable, a word and a byte; the segmentation with the highest sum wins. A word costs more than all
# syllables of a name, so a name is never spelled with a word in its middle; a byte costs more than any word.
_PIECE_SCORE, _WORD_SCORE, _BYTE_SCORE = -1.0, -12.0, -100.0
_SPACE = "Ġ"  # how the byte-level alphabet writes a space
_MOST_PASSAGES = 30  # numbers up to here are tokens


def build_tokenizer(
    texts: Iterable[str],
    *,
    pieces: Sequence[str] = (),
    tags: Sequence[str] = (),
    always: Iterable[str] = (),
    vocab_size: int = 2048,
) -> PreTrainedTokenizerFast:
    """A byte-exact word-level tokenizer for these texts, without a chat template.

    The vocabulary holds the 256 bytes, every piece (as it stands, and after a space where it starts a word), and the
    most frequent words of the texts as far as `vocab_size` reaches: bare, for the start of a text or after a tag, and
    after a space where the texts have that. A word that splits into pieces is no token of its own: it is always
    spelled in pieces.

    Args:
        texts: what the policy will read and write; read once.
        pieces: syllables of invented names, as spelled (`name_parts` of a world's `world.json`).
        tags: strings that are one token each and survive decoding, such as a protocol's tags.
        always: texts whose words come before all others, however rare.
        vocab_size: most tokens, tags and control tokens included; fewer where the texts have fewer words.

    Raises:
        ValueError: `vocab_size` does not hold the bytes, pieces, tags and the two control tokens.
    """
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tags = list(dict.fromkeys(tags))
    first = _count_words(always, splitter, tags)
    counts = _count_words(texts, splitter, tags) + first
    spelled = {"".join(word for word, _ in splitter.pre_tokenize_str(piece)) for piece in pieces if piece.strip()}
    named = {word for word in counts if _spell(word.removeprefix(_SPACE), spelled)}
    starts = {piece for piece in spelled if piece[:1].isupper()}
    starts.update(_spell(word[1:], spelled)[0] for word in named if word[0] == _SPACE)

    scores = dict.fromkeys(sorted(pre_tokenizers.ByteLevel.alphabet()), _BYTE_SCORE)
    scores.update((piece, _PIECE_SCORE) for piece in sorted(spelled))
    scores.update((_SPACE + piece, _PIECE_SCORE) for piece in sorted(starts))
    room = vocab_size - len(tags) - 2
    if len(scores) > room:
        raise ValueError(
            f"vocab_size is {vocab_size}, but bytes, pieces, tags and control tokens alone are "
            f"{len(scores) + len(tags) + 2}; allow more than that"
        )
    words: Counter[str] = Counter()
    for word, count in counts.items():
        if word not in named:
            words[word.removeprefix(_SPACE) or word] += count
    wanted = {word.removeprefix(_SPACE) or word for word in first}
    for word, _ in sorted(words.items(), key=lambda item: (item[0] not in wanted, -item[1], item[0])):
        forms = [word, *([_SPACE + word] if _SPACE + word in counts else [])]
        if len(scores) + sum(form not in scores for form in forms) > room:
            break
        scores.update((form, _WORD_SCORE) for form in forms if scores.get(form) != _PIECE_SCORE)

    tokenizer = Tokenizer(Unigram(list(scores.items())))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (PAD, EOS)])
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in tags])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_tiny_policy(
    out_dir: str | Path,
    texts: Iterable[str],
    *,
    protocol: AgentProtocol,
    pieces: Sequence[str] = (),
    vocab_size: int = 2048,
    hidden_size: int = 128,
    num_layers: int = 4,
    num_heads: int = 4,
    intermediate_size: int | None = None,
    max_position_embeddings: int = 1024,
    initializer_range: float = 0.02,
    seed: int = 0,
) -> Path:
    """An untrained Llama-style policy with its own tokenizer, saved as an ordinary Hugging Face folder.

    With the defaults and 1,500 tokens it has 0.85 million weights: embeddings are tied, and `intermediate_size` is
    twice `hidden_size` unless given. Equal arguments give equal files.

    Args:
        out_dir: the folder to write; files of an earlier policy there are replaced.
        texts: corpus passages and questions; the protocol's own text is added here.
        protocol: its tags become single tokens.
        pieces: syllables of invented names, see `build_tokenizer`.
        seed: of the weights.

    Returns:
        `out_dir`.

    Raises:
        ValueError: a vocabulary that does not fit, or heads that do not divide the hidden size into even parts.
    """
    if hidden_size % num_heads or hidden_size // num_heads % 2:
        raise ValueError(
            f"hidden_size {hidden_size} over num_heads {num_heads} must be an even whole number (rotary positions)"
        )
    own = _protocol_texts(protocol)
    tokenizer = build_tokenizer(texts, pieces=pieces, tags=protocol.tags, always=own, vocab_size=vocab_size)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        intermediate_size=intermediate_size or 2 * hidden_size,
        max_position_embeddings=max_position_embeddings,
        initializer_range=initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.model_max_length = max_position_embeddings
    tokenizer.save_pretrained(out)
    model.save_pretrained(out)
    return out


def _count_words(texts: Iterable[str], splitter: pre_tokenizers.ByteLevel, tags: Sequence[str]) -> Counter[str]:
    """Words in the byte-level alphabet, a leading space included, with their counts; tags split texts."""
    at_tags = re.compile("|".join(map(re.escape, sorted(tags, key=len, reverse=True))) or r"(?!)")
    counts: Counter[str] = Counter()
    for text in texts:
        for part in at_tags.split(text):
            counts.update(word for word, _ in splitter.pre_tokenize_str(part))
    return counts


def _spell(word: str, pieces: set[str]) -> list[str]:
    """The fewest pieces that spell a word, or [] where they can't."""
    best: list[list[str] | None] = [[]]
    longest = max(map(len, pieces), default=0)
    for end in range(1, len(word) + 1):
        options = [
            [*prefix, word[start:end]]
            for start in range(max(0, end - longest), end)
            if (prefix := best[start]) is not None and word[start:end] in pieces
        ]
        best.append(min(options, key=len, default=None))
    return best[-1] or []


def _protocol_texts(protocol: AgentProtocol) -> list[str]:
    """Everything that the protocol itself can put before a policy, and the citation marks that it may write."""
    before, after = protocol.wrapper
    lines = [protocol.passage.format(number=n, title="", text="") for n in range(1, _MOST_PASSAGES + 1)]
    marks = " [1][2] [3]"
    return [
        protocol.prompt.format(question="?"),
        protocol.correction,
        before,
        after,
        protocol.nothing_found,
        *lines,
        marks,
        *([protocol.window, protocol.no_document, protocol.no_window] if protocol.offers_open else []),
        *([protocol.opens_used_up] if protocol.offers_open else []),
    ]
