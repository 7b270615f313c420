"""Tiny tokenizers for the tests of this room."""

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def bpe_tokenizer(texts: list[str], *, vocab_size: int = 400, chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE like Qwen's: tags are split over several tokens. `chat` adds ChatML tokens and a template."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    special = ["<|endoftext|>", *(["<|im_start|>", "<|im_end|>"] if chat else [])]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if chat:
        tokenizer.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>" if chat else "<|endoftext|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML if chat else None,
        clean_up_tokenization_spaces=False,
    )


def chat_tokenizer(
    texts: list[str], template: str, *, control: list[str], end_of_turn: str, tags: list[str]
) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a chat template: `control` are special tokens, `tags` others that were added."""
    tokenizer = bpe_tokenizer(texts)
    tokenizer.add_special_tokens({"additional_special_tokens": control, "eos_token": end_of_turn})
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    if "<|begin_of_text|>" in control:
        tokenizer.bos_token = "<|begin_of_text|>"
    tokenizer.chat_template = template
    return tokenizer


def normalising_tokenizer(tags: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that maps look-alikes to ASCII before it looks for its added tokens, as some models' do."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Replace("\u200b", ""), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["a"], trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=True) for tag in tags])
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
