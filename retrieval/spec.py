"""What a config may name as a retriever: a path, a URL, or a mapping that combines others.

    indexes/bm25                                        an index folder
    http://127.0.0.1:8000                               a server (`waymark serve-index`)
    hybrid.yaml                                         a file that holds one of these mappings
    {index: indexes/bm25, verify: false}
    {url: "http://127.0.0.1:8000", timeout_s: 30}
    {hybrid: [indexes/bm25, indexes/dense], method: rrf, weights: [1, 2], rrf_k: 60, depth: 100}
    {rerank: indexes/bm25, model: my/cross-encoder, depth: 50}

Parts are specs again, so a hybrid may be reranked and a reranked one fused. A mapping may be written as text,
`'{hybrid: [a, b]}'`, which is how a command line gives one. Relative paths are from the working directory, those inside
a file too. A spec is the checked form of any of these; `opening` opens it.
"""

import json
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from retrieval.bearer_token import BearerToken
from retrieval.hybrid import Method
from retrieval.setting_words import in_words
from retrieval.spec_text import FORMS, expanded

_MOST_LEVELS = 8
_level: ContextVar[int] = ContextVar("level of a retriever's part", default=1)
_KINDS = ("index", "url", "hybrid", "rerank")


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def __str__(self) -> str:
        """As a person would write it: a path or URL, else the mapping."""
        short = short_form(self)  # type: ignore[arg-type]  # every spec is one of the four
        return short if isinstance(short, str) else json.dumps(short, ensure_ascii=False)


class IndexSpec(_Spec):
    """An index folder on this machine."""

    index: Path
    """Folder that build-index wrote."""
    verify: bool = True
    """Compare every file with its checksum when it opens; off saves reading a large index once."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings that only a search needs, in place of those of the build: `{nprobe: 64}`, `{encoder: {device: cpu}}`."""


class UrlSpec(_Spec):
    """A retrieval server."""

    url: str = Field(pattern=r"^https?://")
    """Its address, `http://host:port`."""
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Deadline of one search in seconds, retries included; None takes the client's."""
    attempt_timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Longest time for one attempt in seconds; None takes the client's."""
    retries: int | None = Field(default=None, ge=0)
    """How often a search that failed on the way is tried again; None takes the client's."""
    cache_queries: int | None = Field(default=None, ge=0)
    """How many queries' hits to keep in memory; None keeps none."""
    cache_folder: Path | None = None
    """A folder to keep them in instead, shared by runs."""
    token: BearerToken | None = Field(default=None, exclude=True)
    """Bearer token, where the server wants one; it is never written back, so no run folder holds it."""


class HybridSpec(_Spec):
    """Two or more retrievers over one corpus, fused; see `HybridRetriever`."""

    hybrid: tuple["RetrieverSpec", ...]
    """The parts."""
    method: Method = "rrf"
    """`rrf`: reciprocal ranks; `weighted`: scores brought to 0 to 1."""
    weights: tuple[float, ...] | None = None
    """One positive weight a part; None weighs them equally."""
    rrf_k: float = Field(default=60, ge=0, allow_inf_nan=False)
    """How little the first ranks stand out."""
    depth: int = Field(default=100, ge=1)
    """Hits taken from each part."""

    @model_validator(mode="after")
    def _one_weight_a_part(self) -> Self:
        if len(self.hybrid) < 2:
            raise ValueError(f"hybrid: has {len(self.hybrid)} part; it needs two or more over one corpus")
        if self.weights is not None and len(self.weights) != len(self.hybrid):
            raise ValueError(
                f"weights: there are {len(self.weights)} for {len(self.hybrid)} parts; give one weight for each part"
            )
        if self.weights is not None and any(not 0 < weight < float("inf") for weight in self.weights):
            raise ValueError(f"weights: {list(self.weights)}; each must be a number above 0")
        return self


class RerankSpec(_Spec):
    """A retriever whose best hits a cross-encoder puts into order; see `RerankingRetriever`."""

    rerank: "RetrieverSpec"
    """The first stage."""
    model: str = Field(min_length=1)
    """The cross-encoder: a Hugging Face id or a folder."""
    depth: int = Field(default=50, ge=1)
    """Hits of each query that are scored anew."""
    batch_size: int = Field(default=32, ge=1)
    """Pairs a forward pass."""
    max_length: int | None = Field(default=None, ge=1)
    """Tokens a pair; None takes the model's own limit."""
    device: str | None = None
    """`cpu`, `cuda`, ...; None takes a GPU where there is one."""
    revision: str | None = None
    """Commit or tag of a Hugging Face id."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""


class _NestedTooDeepError(Exception):
    """Ends a validation at once, where pydantic would collect one error a level and part."""


def _one_level_down(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Expand and check one retriever, and count how deep it lies: a file may name itself."""
    level = _level.get()
    if level > _MOST_LEVELS:
        raise _NestedTooDeepError(
            f"the retriever {value!s:.200} never ends: a file of it names itself, or over {_MOST_LEVELS} are nested; "
            "name an index or a server in it"
        )
    reset = _level.set(level + 1)
    try:
        return validate(expanded(value))
    finally:
        _level.reset(reset)


def _kind(value: Any) -> str | None:
    keys = value.keys() if isinstance(value, Mapping) else type(value).model_fields if isinstance(value, _Spec) else ()
    found = [kind for kind in _KINDS if kind in keys]
    return found[0] if len(found) == 1 else None


RetrieverSpec = Annotated[
    Annotated[IndexSpec, Tag("index")]
    | Annotated[UrlSpec, Tag("url")]
    | Annotated[HybridSpec, Tag("hybrid")]
    | Annotated[RerankSpec, Tag("rerank")],
    Discriminator(_kind, custom_error_type="retriever", custom_error_message=f"a retriever is {FORMS}"),
    WrapValidator(_one_level_down),
]
"""What a config field of this type takes: any of the forms above."""

HybridSpec.model_rebuild()
RerankSpec.model_rebuild()
_SPEC: TypeAdapter[Any] = TypeAdapter(RetrieverSpec)
_SPECS: dict[str, type[_Spec]] = {"index": IndexSpec, "url": UrlSpec, "hybrid": HybridSpec, "rerank": RerankSpec}


def retriever_spec(spec: Any) -> IndexSpec | UrlSpec | HybridSpec | RerankSpec:
    """The checked form of a path, URL, mapping or spec; nothing is opened, only a config file is read.

    Raises:
        ValueError: what is wrong with which field of which part, and what is allowed.
    """
    try:
        checked: IndexSpec | UrlSpec | HybridSpec | RerankSpec = _SPEC.validate_python(spec)
    except ValidationError as error:
        raise ValueError("\n  ".join(map(_described, error.errors(include_url=False)))) from None
    except _NestedTooDeepError as error:
        raise ValueError(str(error)) from None
    return checked


def short_form(spec: IndexSpec | UrlSpec | HybridSpec | RerankSpec) -> str | dict[str, Any]:
    """A spec as JSON types that `retriever_spec` reads as the same spec, but for a token, which is left out.

    An index or a URL with nothing else set is the text that it was given as; a mapping has every field.
    """
    match spec:
        case IndexSpec() if spec == IndexSpec(index=spec.index):
            return str(spec.index)
        case UrlSpec() if spec.model_copy(update={"token": None}) == UrlSpec(url=spec.url):
            return spec.url
        case HybridSpec():
            return {**spec.model_dump(mode="json"), "hybrid": [short_form(part) for part in spec.hybrid]}
        case RerankSpec():
            return {**spec.model_dump(mode="json"), "rerank": short_form(spec.rerank)}
        case _:
            return spec.model_dump(mode="json")


RetrieverSetting = Annotated[
    IndexSpec | UrlSpec | HybridSpec | RerankSpec, PlainValidator(retriever_spec), PlainSerializer(short_form)
]
"""A field of another config that takes any of the forms: what is wrong is told in words; it is written back short."""


def _described(error: Any) -> str:
    """One line: the part and field, what is wrong, what was given."""
    steps, kind = _field_path(error["loc"])
    where = f"retriever: {'.'.join(steps)}" if steps else "retriever"
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such setting beside {kind}; there are {', '.join(_SPECS[kind].model_fields)}"
    return f"{where}: {in_words(error)}"


def _field_path(location: tuple[str | int, ...]) -> tuple[list[str], str]:
    """The fields of an error's location without the tags that pydantic puts before a part's fields; the last tag."""
    steps: list[str] = []
    kind, is_tag = "", True
    for step in location:
        if is_tag:
            kind, is_tag = str(step), False
            continue
        steps.append(str(step))
        is_tag = isinstance(step, int) or step == "rerank"
    return steps, kind
