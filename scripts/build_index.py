"""Build a search index: `waymark build-index corpus.jsonl.gz --out indexes/mine`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer


def build_index(
    corpus: Annotated[Path, typer.Argument(help="Corpus: .jsonl (plain, .gz, .xz, .zst), or a BEIR folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the index; it appears when the index is complete.")],
    backend: Annotated[
        str,
        typer.Option(
            help="Sparse: bm25s, rank_bm25 (the readable reference), pyserini. Dense: flat, hnsw, ivf_flat, ivf_sq8, "
            "ivf_pq, torch_exact."
        ),
    ] = "bm25s",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the backend, for example k1=0.9; repeatable."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a finished index at --out.")] = False,
    resume: Annotated[
        bool, typer.Option(help="Go on with a build of the same index that was broken off, or begin anew.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option(help="Only measure a sample, and print the memory, disk and time that the build will need.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes on this host that build shards.")] = 1,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Ray cluster that builds the shards instead: auto, HOST:PORT, or local for this host."),
    ] = None,
    ram_gb: Annotated[
        float | None, typer.Option(help="Most memory that the build may hold, in gigabytes, workers included.")
    ] = None,
    shard_size: Annotated[int | None, typer.Option(help="Passages a shard; default: the backend's.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the figures to this file.")
    ] = None,
) -> None:
    """Build an index over a corpus of {id, title, text}, {id, contents} or BEIR rows.

    A build that was killed goes on when the same command is given again.

    Example: waymark build-index data/corpus.jsonl.gz --backend bm25s --out indexes/mine --set k1=0.9 --set b=0.4

    Example: waymark build-index data/corpus.jsonl.gz --out indexes/mine --workers 8 --ram-gb 16 --dry-run
    """
    from retrieval import index
    from retrieval.build.memory import in_words
    from scripts.assignments import nested, parse_assignments
    from scripts.stages import StageBar

    options: dict[str, Any] = {
        "backend": backend,
        "settings": nested(parse_assignments(setting or [], option="--set")),
        "workers": workers,
        "ray_address": ray_address,
        "ram_gb": ram_gb,
        "shard_size": shard_size,
    }
    if dry_run:
        needs = index.forecast_index(corpus, out, **options)
        lines = _needs(needs, workers)
        width = max(map(len, lines)) + 2
        for label, value in lines.items():
            typer.echo(f"{label:<{width}}{value}")
        if needs.replaces and not overwrite:
            typer.echo(f"waymark: {out} already holds an index; the build needs --overwrite to replace it", err=True)
        if not needs.fits_the_disk:
            typer.echo("waymark: the disk has no room for this build", err=True)
        figures: dict[str, Any] = {"index": str(out), **asdict(needs), "fits_the_disk": needs.fits_the_disk}
    else:
        with StageBar() as bar:
            manifest = index.build_index(
                corpus, out, **options, overwrite=overwrite, resume=resume, progress=bar, notice=bar.say
            )
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        typer.echo(
            f"{out}: {manifest.num_passages:,} passages, backend {manifest.backend}, {in_words(size)}, "
            f"{manifest.build_seconds:.1f} s, index hash {manifest.index_hash[:12]}"
        )
        figures = {"index": str(out), "bytes": size, **manifest.model_dump(exclude={"files"})}
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _needs(needs: Any, workers: int) -> dict[str, str]:
    """A forecast as the lines that a person reads."""
    from retrieval.build.memory import in_words

    how = f"{'counted' if needs.counted else 'about'}; measured on the first {needs.sampled:,}"
    lines = {
        "passages": f"{needs.num_passages:,} ({how})",
        "memory": f"{in_words(needs.ram_bytes)} at most",
        "disk": f"{in_words(needs.disk_bytes)}, {in_words(needs.peak_disk_bytes)} while it is built; "
        f"{in_words(needs.free_disk_bytes)} are free",
        "time": f"{_duration(needs.seconds)} with {workers} worker{'' if workers == 1 else 's'}",
        **needs.details,
    }
    left = needs.unfinished
    if left is not None:
        where = f"in {left.folder}"
        lines["unfinished"] = (
            f"a build that a new one clears away, since its {', '.join(left.differences)} differ, {where}"
            if left.differences
            else f"{'merged' if left.is_merged else f'{left.passages:,} passages are done'} {where}; "
            f"{_duration(needs.seconds_left)} left"
        )
    return lines


def _duration(seconds: float) -> str:
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole_seconds} s" if minutes else f"{seconds:.1f} s"


if __name__ == "__main__":
    from scripts.cli import run

    run(build_index)
