"""What a Hugging Face folder or id holds, loaded with errors that say what to do. Imports no torch.

Processes that play episodes load a tokenizer here and hold no model (`envs.without_torch`).
"""

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase


def load_tokenizer(path_or_id: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or Hugging Face id.

    Raises:
        ValueError: a local folder without a tokenizer, or one that cannot be loaded.
    """
    folder = Path(path_or_id)
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
    if folder.is_dir() and not any((folder / name).is_file() for name in names) and not trust_remote_code:
        raise ValueError(
            f"the model folder {folder} has no tokenizer (looked for {', '.join(names)}). Save it there with "
            "tokenizer.save_pretrained(folder)"
        )
    return load_part(AutoTokenizer.from_pretrained, path_or_id, "tokenizer", trust_remote_code=trust_remote_code)  # type: ignore[return-value]


def load_part(loader: Callable[..., object], path_or_id: str | Path, what: str, **options: object) -> object:
    """Load a tokenizer, config or model with transformers' `loader`; `what` names it in the error.

    Raises:
        ValueError: no such folder, or nothing that the loader understands.
    """
    if not Path(path_or_id).exists() and _is_path(path_or_id):
        raise ValueError(
            f"there is no model folder at {path_or_id}. Give a Hugging Face folder (config.json, *.safetensors, "
            "tokenizer.json) or the id of a model on the hub (NAME or OWNER/NAME)"
        )
    try:
        return loader(str(path_or_id), **options)
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise ValueError(
            f"no {what} could be loaded from {str(path_or_id)!r}: {error}. Give a Hugging Face folder (config.json, "
            "*.safetensors, tokenizer.json) or the id of a model on the hub"
        ) from error


def _is_path(path_or_id: str | Path) -> bool:
    """True for what no id on the hub looks like: ids are NAME or OWNER/NAME."""
    text = str(path_or_id)
    return text.startswith(("/", ".", "~")) or text.count("/") > 1
