"""The pages on retrieval are true: every setting, command, spec, key and number on them is held against the code."""

import json
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from retrieval.analyzer import AnalyzerSettings
from retrieval.backends import BACKENDS, backend_named
from retrieval.build import forecast
from retrieval.build.durable import write_whole
from retrieval.corpus import DIALECTS
from retrieval.dense.ivf import default_nprobe
from retrieval.dense.ivf_training import number_of_lists, sample_bytes
from retrieval.dense.presets import PRESETS, EncoderSettings
from retrieval.index import build_index, open_index
from retrieval.passage import Passage
from retrieval.passage_store import PassageWriter
from retrieval.spec import HybridSpec, IndexSpec, RerankSpec, UrlSpec, retriever_spec
from scripts.cli import app
from tests.retrieval.pages import NAMES, REPOSITORY, blocks, coded, commands, default_of, page, section, table, tables

PAGE = page("retrieval")
DENSE_PAGE = page("dense")
WIKI = page("wiki18")
SPARSE = ("bm25s", "rank_bm25", "pyserini")
DENSE = tuple(name for name in BACKENDS if name not in SPARSE)
NESTED = {"analyzer": AnalyzerSettings, "encoder": EncoderSettings}


def settings_and_defaults(name: str) -> dict[str, Any]:
    """Every setting of a backend by its dotted name, with its default as JSON."""
    found: dict[str, Any] = {}
    for field, info in backend_named(name).settings.model_fields.items():
        inner = {field: info} if field not in NESTED else NESTED[field].model_fields
        found |= {key if field not in NESTED else f"{field}.{key}": value.default for key, value in inner.items()}
    return found


def test_the_table_of_backends_has_every_backend_and_its_extra() -> None:
    rows = {coded(row[0])[0]: (coded(row[1]) or [None])[0] for row in table(PAGE, "`--backend`")}
    assert rows == {name: backend_named(name).extra for name in BACKENDS}


@pytest.mark.parametrize("name", SPARSE)
def test_the_page_has_every_setting_of_a_sparse_backend_with_its_default(name: str) -> None:
    rows = table(PAGE, "setting", "default", "backends")
    said = {coded(row[0])[0]: default_of(row[1]) for row in rows if name in coded(row[2])}
    assert said == settings_and_defaults(name)
    assert backend_named(name).open_settings == frozenset()


@pytest.mark.parametrize("name", DENSE)
def test_the_page_has_every_setting_of_a_dense_backend_with_its_default_and_when_it_counts(name: str) -> None:
    rows = [row for row in table(DENSE_PAGE, "setting", "default") if row[2] == "all" or name in row[2].split(", ")]
    assert {coded(row[0])[0]: default_of(row[1]) for row in rows} == settings_and_defaults(name)
    assert {coded(row[0])[0] for row in rows if row[3] == "search"} == backend_named(name).open_settings
    assert {row[3] for row in rows} == {"build", "search"}


def test_the_page_has_every_encoder_preset_as_it_is() -> None:
    heading, *rows = next(rows for rows in tables(DENSE_PAGE) if rows[0][0] == "preset")
    said = {
        preset: {
            coded(name)[0]: cell.strip("`") if "prefix" in name else default_of(cell)
            for name, cell in zip(heading[1:], row[1:], strict=True)
        }
        for row in rows
        for preset in coded(row[0])
    }
    assert said == {name: dict(fields) for name, fields in PRESETS.items()}


def test_the_shard_sizes_are_those_of_the_builders() -> None:
    said = table(PAGE, "option", "meaning")
    [text] = [row[1] for row in said if row[0] == "`--shard-size N`"]
    for name in SPARSE:
        builder = backend_named(name).builder(backend_named(name).settings())
        assert f"{builder.shard_size():,} for `{name}`" in text
    assert "2,048 for dense" in text


def test_the_page_names_every_dialect_of_a_corpus() -> None:
    named = {frozenset(coded(row[0])) - {"title"} for row in table(PAGE, "keys", "where from")}
    assert named == {keys for keys, _ in DIALECTS}


def test_the_example_runs_and_its_folder_is_the_one_of_the_page(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    texts = {"a": "owls hoot", "b": "cats purr", "c": "owls sleep by day"}
    corpus.write_text("".join(json.dumps({"id": id_, "text": text}) + "\n" for id_, text in texts.items()))
    (example,) = blocks(PAGE, "python")
    names: dict[str, Any] = {}
    exec(compile(example, "retrieval.md", "exec"), names)
    [owls, cats] = names["search"](corpus, tmp_path / "index", ["an owl", "cats"])
    assert [(rank, id_) for rank, id_, _ in owls] == [(1, "a"), (2, "c")]
    assert [(rank, id_) for rank, id_, _ in cats] == [(1, "b")]
    files = {name for row in table(PAGE, "file", "backends") if row[1] in ("all", "`bm25s`") for name in coded(row[0])}
    assert {path.name for path in (tmp_path / "index").iterdir()} == files
    manifest = json.loads((tmp_path / "index" / "manifest.json").read_text())
    assert {"corpus_hash", "index_hash"} <= manifest.keys()


def test_an_altered_file_is_refused_at_opening_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"id": "a", "text": "owls hoot"}\n')
    build_index(tmp_path / "corpus.jsonl", tmp_path / "index")
    write_whole(tmp_path / "index" / "vocab.index.json", b"{}")
    with pytest.raises(ValueError, match="checksum") as raised:
        open_index(tmp_path / "index")
    assert type(raised.value).__name__ in coded(PAGE.replace("\n", " "))


def test_every_spec_on_the_page_is_understood_and_every_field_of_one_is_named() -> None:
    (example,) = blocks(PAGE, "yaml")
    spec = retriever_spec(yaml.safe_load(example))
    assert isinstance(spec, RerankSpec) and isinstance(spec.rerank, HybridSpec)
    rows = table(PAGE, "a spec is", "which opens")
    for kind in (IndexSpec, UrlSpec, HybridSpec, RerankSpec):
        first = next(iter(kind.model_fields))
        [said] = [row for row in rows if f"{{{first}: " in row[0] and ".yaml" not in row[0]]
        assert set(coded(said[1])) | set(re.findall(r"(\w+): ", said[0])) == set(kind.model_fields)
    for mapping in re.findall(r"`'?(\{(?:index|url|hybrid|rerank): [^`]*?\})'?`", page("serving") + DENSE_PAGE + PAGE):
        if "SPEC" not in mapping:
            retriever_spec(yaml.safe_load(mapping.replace("PATH", "path").replace("URL", "http://host:1")))


@pytest.mark.parametrize("name", NAMES)
def test_every_command_on_a_page_can_be_given(name: str) -> None:
    group: Any = typer.main.get_command(app)
    for words in commands(page(name)):
        if words[0] == "waymark":
            with group.make_context("waymark", [words[1], "--help"], resilient_parsing=True) as context:
                verb = group.get_command(context, words[1])
                if len(words) > 2 and "..." not in words:
                    verb.make_context(words[1], words[2:], parent=context)  # a usage error raises
        else:
            assert words[1] == "-m", words
            module = find_spec(words[2])
            assert module is not None and module.origin is not None, words
            source = Path(module.origin).read_text(encoding="utf-8")
            for flag in (word for word in words[3:] if word.startswith("--")):
                assert f'"{flag}"' in source, f"{' '.join(words)}: there is no {flag}"


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_that_a_command_sets_exists(name: str) -> None:
    for words in commands(page(name)):
        given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        if words[:2] != ["waymark", "build-index"]:
            continue
        backend = words[words.index("--backend") + 1] if "--backend" in words else "bm25s"
        unknown = {text.partition("=")[0] for text in given} - settings_and_defaults(backend).keys()
        assert not unknown, f"{' '.join(words)}: {unknown}"


def test_the_options_of_the_build_are_those_of_the_verb() -> None:
    source = (REPOSITORY / "scripts" / "build_index.py").read_text(encoding="utf-8")
    for row in table(PAGE, "option", "meaning"):
        for option in coded(row[0]):
            name = option.split()[0].removeprefix("--").removeprefix("no-").replace("-", "_")
            assert re.search(rf"^    {name}: ", source, re.MULTILINE), option


def test_the_extras_of_the_install_page_are_those_of_the_project() -> None:
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {coded(row[0])[0] for row in table(page("install"), "extra", "brings")} == set(declared)


N, DIMENSION = 21_015_324, 768


def gigabytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB"


def cost(symbol: str) -> float:
    """A cost of the first table of docs/wiki18.md."""
    [text] = [row[1] for row in table(WIKI, "", "", "from") if row[0] == symbol]
    return float(text.split()[0])


def row_of(heading: str, first: str) -> list[str]:
    rows = [[cell.strip("*") for cell in row] for rows in tables(section(WIKI, heading)) for row in rows]
    [row] = [row for row in rows if row[0] == first] or [row for row in rows if row[0].startswith(first)]
    return row


def test_the_costs_of_a_passage_are_those_of_the_code(tmp_path: Path) -> None:
    assert cost("m") == forecast._PASSAGE_BYTES_IN_MEMORY
    with PassageWriter(tmp_path) as writer:
        for i in range(5000):
            writer.add(Passage(id=f"p{i}", title=f"title {i}", text="text"))
        writer.finish()
    beside = sum(path.stat().st_size for path in tmp_path.glob("passages.*.npy"))
    [s] = [row for row in table(WIKI, "", "", "from") if row[0] == "s"]
    line, starts, lookups = map(int, re.findall(r"\((\d+)\)", s[2]))
    assert starts + lookups == round(beside / 5000) and line + starts + lookups == cost("s")


def test_the_numbers_of_bm25_over_wiki_18_follow_from_their_costs() -> None:
    s, m, w, q, terms = cost("s"), cost("m"), cost("w"), cost("q"), 5_345_463
    arrays, parts, index = 8 * w * N, q * w * N, s * N + 8 * w * N + 30 * terms
    buffer = 256 << 20
    assert row_of("BM25", "passages")[2] == gigabytes(s * N)
    assert row_of("BM25", "scores and rows")[2] == gigabytes(arrays)
    assert row_of("BM25", "disk, the index")[2] == gigabytes(index)
    assert row_of("BM25", "parts while")[2] == gigabytes(parts)
    assert row_of("BM25", "disk, at most")[2] == gigabytes(index + parts)
    assert row_of("BM25", "passages in memory")[2] == gigabytes(m * N)
    held = [float(row_of("BM25", name)[2].split()[0]) for name in ("vocabulary in", "buffer", "interpreter")]
    total = float(row_of("BM25", "memory of the build")[2].split()[0])
    assert total == pytest.approx(m * N / 1e9 + sum(held), abs=0.11)
    assert row_of("BM25", "passes")[2].startswith(f"{-(-int(arrays) // buffer)}, of {gigabytes(parts)}")


@pytest.mark.parametrize(("number", "name"), [(4, "float32"), (2, "float16")])
def test_the_numbers_of_e5_over_wiki_18_follow_from_the_code(number: int, name: str) -> None:
    lists = number_of_lists(N, None)
    sample = 64 * lists
    assert (
        f"L = {lists:,} lists" in WIKI
        and f"S = 64 L = {sample:,}" in WIKI
        and f"into {default_nprobe(lists)} of" in WIKI
    )
    passages, embeddings = cost("s") * N, number * DIMENSION * N
    files = [0, N * (DIMENSION + 8) + 4 * lists * DIMENSION, N * (DIMENSION // 8 + 8) + 4 * lists * DIMENSION]
    assert row_of("E5-base: the embeddings", "embeddings")[2 if number == 4 else 3] == gigabytes(embeddings)
    assert row_of("E5-base: the indexes", f"disk, {name}")[1:] == [gigabytes(passages + embeddings + f) for f in files]
    peaks = [gigabytes(passages + 2 * embeddings + f + (4 * N if f else 0)) for f in files]
    assert row_of("E5-base: the indexes", f"at most: and the parts, {number} d n")[1:] == peaks
    held = gigabytes(sample_bytes(sample, DIMENSION) + 4 * lists * DIMENSION)
    assert row_of("E5-base: the indexes", "and the sample")[2:] == [held, held]
