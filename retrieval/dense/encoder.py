"""Texts into vectors with a sentence-transformers model, the way its settings say.

>>> encoder = Encoder(EncoderSettings(model="intfloat/e5-base-v2"))                             # doctest: +SKIP
>>> encoder.queries(["who painted the ceiling"]).shape                                          # doctest: +SKIP
(1, 768)
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.dense.presets import EncoderSettings
from retrieval.hub import cached_folder
from retrieval.passage import is_text
from retrieval.request import RequestError

Vectors = NDArray[np.float32]
"""`[num_texts, dimension]`, float32."""


class Encoder:
    """A loaded encoder. Thread-safe: one call at a time computes.

    The same texts in one call give the same bytes on the same machine with the same number of threads: batches are cut
    by length, and depend on nothing but the texts and `batch_size`. Beside other texts, the numbers of a text differ by
    a few 1e-8: it is padded to another length.

    Raises:
        ValueError: sentence-transformers is missing, the model cannot be loaded, has no pooling to set, takes fewer
            tokens than `max_length`, or the device is not there.
        FileNotFoundError: `model` is a path, and there is no such folder.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        check_model_folder(settings)
        _check_device(settings)
        model = _loaded(settings)
        if settings.pooling is not None:
            _set_pooling(model, settings)
        _drop_normalisation(model)  # done here in float32, or not at all
        model.default_prompt_name = None  # prefixes are put on here
        if settings.max_length is not None:
            _set_max_length(model, settings.max_length, settings.model)
        prompts = {name: text for name, text in (model.prompts or {}).items() if text}
        self.settings = settings.model_copy(
            update={
                "query_prefix": _first_of(settings.query_prefix, prompts.get("query")),
                "passage_prefix": _first_of(settings.passage_prefix, prompts.get("document"), prompts.get("passage")),
                "max_length": model.max_seq_length,
            }
        )
        """The settings with every prefix and limit filled in, from the model's files where nothing else said them."""
        self._model = model
        self._lock = threading.Lock()
        self.dimension: int = model.get_embedding_dimension()
        """Numbers in a vector."""

    def queries(self, texts: Sequence[str]) -> Vectors:
        """The vectors of queries, `[num_texts, dimension]`.

        Raises:
            ValueError: an empty text, or a vector that is not finite.
        """
        return self._encoded(texts, self.settings.query_prefix or "", "query")

    def passages(self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None) -> Vectors:
        """The vectors of passages, `[num_texts, dimension]`; `on_progress` is told after each batch how many are done.

        Raises:
            ValueError: an empty text, or a vector that is not finite.
        """
        return self._encoded(texts, self.settings.passage_prefix or "", "passage", on_progress)

    @property
    def num_bytes(self) -> int:
        """Memory of the model's weights."""
        return sum(weights.numel() * weights.element_size() for weights in self._model.parameters())

    def _encoded(
        self, texts: Sequence[str], prefix: str, kind: str, on_progress: Callable[[int], None] | None = None
    ) -> Vectors:
        for i, text in enumerate(texts):
            if not text.strip():
                raise RequestError(f"{kind} {i} of {len(texts)} is an empty text, which has no direction to search in")
            if not is_text(text):
                raise RequestError(f"{kind} {i} of {len(texts)} holds half a surrogate pair, which is no character")
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        watched = nullcontext() if on_progress is None else _watched(self._model, len(texts), on_progress)
        with self._lock, watched:  # fast tokenizers refuse to be used by two threads at once
            found = self._model.encode(
                [prefix + text for text in texts], batch_size=self.settings.batch_size, show_progress_bar=False
            )
        vectors = np.ascontiguousarray(found, dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise ValueError(
                f"the encoder {self.settings.model} gave NaN or infinity for {len(bad)} of {len(texts)} texts, first "
                f"for the {kind} {texts[int(bad[0])]!r:.80}; half precision can overflow: set encoder.dtype float32, "
                "or bfloat16 on a GPU"
            )
        return _unit_length(vectors, self.settings.model) if self.settings.normalize else vectors


def check_model_folder(settings: EncoderSettings) -> None:
    """Refuse a path to a folder that is not there or holds no model, without loading anything.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a folder without a `config.json` or `modules.json`.
    """
    name = settings.model
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", "modules.json")):
            raise ValueError(
                f"the encoder folder {name} holds neither config.json nor modules.json: no model was saved there"
            )
        return
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name or path.is_file():
        raise FileNotFoundError(
            f"no encoder folder at {name}; encoder.model is a Hugging Face id such as intfloat/e5-base-v2, or a folder "
            "that save_pretrained has written (a relative one is looked for from the current folder)"
        )


def _check_device(settings: EncoderSettings) -> None:
    import torch

    if (settings.device or "").startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"encoder.device is {settings.device}, and torch sees no CUDA GPU here; open the index with the setting "
            "encoder.device=cpu, or leave the device out"
        )


def _loaded(settings: EncoderSettings) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ValueError(
            f"dense retrieval needs sentence-transformers; pip install 'waymark[dense]' ({error})"
        ) from None
    from safetensors import SafetensorError
    from transformers.utils import logging

    folder = Path(settings.model).expanduser()
    cached = cached_folder(settings.model, settings.revision)
    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a bar for each load of a model says nothing beside that of the build
    try:
        return SentenceTransformer(
            str(cached or (folder if folder.is_dir() else settings.model)),
            device=settings.device,
            revision=None if cached else settings.revision,
            trust_remote_code=settings.trust_remote_code,
            model_kwargs={"dtype": settings.dtype},
        ).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"the encoder {settings.model} could not be loaded; name another, or a folder that save_pretrained has "
            f"written. The loader says: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
        ) from error
    finally:
        if had_bars:
            logging.enable_progress_bar()


@contextmanager
def _watched(model: Any, num_texts: int, on_progress: Callable[[int], None]) -> Iterator[None]:
    """Tell after every batch how many texts have gone through the model."""
    done = 0

    def batch_is_done(module: Any, given: Any, features: Any) -> None:
        nonlocal done
        done = min(num_texts, done + len(features["sentence_embedding"]))
        on_progress(done)

    hook = model.register_forward_hook(batch_is_done)
    try:
        yield
    finally:
        hook.remove()


def _set_pooling(model: Any, settings: EncoderSettings) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    for name, module in model._modules.items():
        if isinstance(module, Pooling):
            model._modules[name] = Pooling(
                module.embedding_dimension, pooling_mode=settings.pooling, include_prompt=module.include_prompt
            )
            return
    raise ValueError(
        f"the encoder {settings.model} has no pooling layer ({', '.join(type(m).__name__ for m in model)}); leave "
        "encoder.pooling out"
    )


def _drop_normalisation(model: Any) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    for name in [name for name, module in model._modules.items() if isinstance(module, Normalize)]:
        del model._modules[name]


def _set_max_length(model: Any, max_length: int, name: str) -> None:
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    offset = 2 if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0
    if positions is not None and max_length > positions - offset:
        raise ValueError(
            f"encoder.max_length is {max_length}, and {name} has {positions - offset} positions; give at most that"
        )
    model.max_seq_length = max_length


def _unit_length(vectors: Vectors, name: str) -> Vectors:
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    if not (lengths > 0).all():
        raise ValueError(f"the encoder {name} gave a vector of zeros, which has no direction; its weights are broken")
    return np.ascontiguousarray(vectors / lengths, dtype=np.float32)


def _first_of(*texts: str | None) -> str:
    return next((text for text in texts if text is not None), "")
