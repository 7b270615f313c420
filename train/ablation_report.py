"""From a request to a report: what is missing is run, and all that is there is told.

Written into the comparison's folder: `methods.json` (the figures), `report.html` with its `report.json`.
"""

import json
from pathlib import Path

from train.ablation import Ablation, Say
from train.ablation_figures import comparison_figures
from train.ablation_lock import only_maker
from train.ablation_markdown import table_as_markdown, write_markdown
from train.ablation_page import final_table, threshold_table, write_page
from train.ablation_pairs import records_of_other_starts
from train.ablation_request import AblationRequest
from train.ablation_workers import run_here
from train.method import BASELINE
from train.progress import RunStopped

FIGURES_FILE = "methods.json"


def compare(
    request: AblationRequest,
    *,
    json_file: Path | None = None,
    markdown: Path | None = None,
    say: Say = lambda text: None,
) -> str:
    """Run what has no record, and report; returns the tables for a terminal.

    Raises:
        ConfigError: settings or records that cannot be used; nothing was run.
        RunStopped: some runs failed; the report of the others was written first, if there are any.
    """
    ablation = request.open(say)
    missing = ablation.missing()
    failed: list[str] = []
    recorded = len(ablation.methods) * len(ablation.seeds) - len(missing)
    if recorded and not request.report_only:
        say(
            f"{recorded} runs have records already and are not run again"
            if recorded > 1
            else "1 run has a record already and is not run again"
        )
    if missing and not request.report_only:
        ablation.check([method for method, _ in missing])
        with only_maker(ablation.out):
            # Read again: another process may have ended meanwhile.
            failed = make_runs(ablation, ablation.missing(), request, say)
    if request.report_only and missing:
        say(f"without a record: {', '.join(f'{method}/{seed}' for method, seed in missing)}")
    if failed and not any(ablation.read().values()):
        raise RunStopped(f"every run failed: {_names(failed)}; why is said above")
    text = report(
        ablation,
        command=request.command(ablation.budget),
        baseline=request.baseline,
        json_file=json_file,
        markdown=markdown,
    )
    if failed:
        raise RunStopped(
            f"{len(failed)} of {len(missing)} runs failed: {_names(failed)}; why is said above; the others are reported"
        )
    return text


def make_runs(ablation: Ablation, missing: list[tuple[str, int]], request: AblationRequest, say: Say) -> list[str]:
    """Make the runs that have no record; returns a line for each that failed."""
    ablation.prepare()
    if others := records_of_other_starts(ablation.read(), ablation.study.cold_start):
        say(
            f"{', '.join(f'{method}/{seed}' for method, seed in others)} began with another cold start than "
            f"{ablation.study.cold_start} and will not be compared with what is made now: put the cold start that they "
            "began with there, or delete their records to have them made again"
        )
    jobs = [ablation.job(method, seed, keep_run=request.keep_runs) for method, seed in missing]
    say(f"{len(jobs)} runs of {ablation.budget:,} trajectories to make")
    if request.ray_address is not None:
        from train.ablation_ray import run_on_ray

        return run_on_ray(jobs, address=request.ray_address, say=say)
    return run_here(jobs, workers=request.workers, logs=ablation.out / "logs", say=say)


def report(
    ablation: Ablation,
    *,
    command: str,
    baseline: str = BASELINE,
    json_file: Path | None = None,
    markdown: Path | None = None,
) -> str:
    """Write figures and page from the records that are there; returns the tables for a terminal.

    `command` is what they say that they were made by; differences are to `baseline`.
    """
    found = ablation.read()
    figures = comparison_figures(
        list(ablation.methods.values()),
        found,
        setting=ablation.name,
        overrides=ablation.overrides,
        title=ablation.setting.title,
        threshold=ablation.setting.threshold,
        budget=ablation.budget,
        command=command,
        baseline=baseline,
    )
    ablation.out.mkdir(parents=True, exist_ok=True)
    for path in (ablation.out / FIGURES_FILE, *([json_file] if json_file else [])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    page = write_page(ablation.out, figures, found)
    if markdown:
        write_markdown(markdown, figures)
    tables = (final_table(figures), threshold_table(figures, "trajectories"))
    return "\n".join([*(table_as_markdown(table) for table in tables), f"report: {page}"])


def _names(failed: list[str]) -> str:
    """The runs that failed, without why: that was said as each of them ended."""
    return ", ".join(line.split(maxsplit=1)[0].rstrip(":") for line in failed)
