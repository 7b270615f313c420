"""Evaluate a policy on questions: `waymark evaluate runs/first/model --index INDEX --questions FILE --out DIR`.

A killed evaluation goes on where it was when the same command is given again.
"""

import json
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    context: typer.Context,
    policy: Annotated[
        str,
        typer.Argument(
            help="Hugging Face folder or id (with --engine openai the served model's, for its tokenizer), or "
            "scripted:expert, scripted:noisy, scripted:closed_book, or predictions:FILE (answers written down)."
        ),
    ],
    index: Annotated[
        str,
        typer.Option(
            help="Index folder, server (http://...), '{hybrid: [A, B]}', or .yaml/.json file of such a mapping. With "
            "--suite, {set} in it stands for the question set."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for evaluation.json, trajectories and report.html.")],
    questions: Annotated[
        str | None,
        typer.Option(help="Questions: a file, a BEIR folder, or a data set of the hub as OWNER/NAME:CONFIG:SPLIT."),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Instead of --questions: multihop or search_r1, each set in a folder of --out.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with the suite's sets, DATA/hotpotqa/questions.jsonl ...; else the hub.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="search_r1: that system's protocol, limits and decoding.")] = None,
    protocol: Annotated[
        str, typer.Option(help="waymark, search_r1, hermes (or with _open), module:object.")
    ] = "waymark",
    controls: Annotated[
        bool | None,
        typer.Option(
            "--controls/--no-controls",
            help="Closed book, one search, random passages, gold sub-questions, gold passages, and the ceilings of "
            "corpus and retriever. Default: those that can be run.",
        ),
    ] = None,
    consistency: Annotated[
        bool, typer.Option("--consistency", help="Also ask each question in its other wordings, and compare.")
    ] = False,
    wordings: Annotated[int, typer.Option(help="With --consistency: wordings of a question at most.")] = 6,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also change one word of each first query: dropped, added, swapped.")
    ] = False,
    noise_curve: Annotated[
        str | None, typer.Option(help="Also ask under these shares of noisy searches: 0,0.25,0.5,1.", metavar="SHARES")
    ] = None,
    noise: Annotated[float, typer.Option(help="Share of searches that find nothing which helps.")] = 0.0,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Ask only these, repeatable: selection=complete.", metavar="FIELD=VALUE"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Ask only the first so many questions.")] = None,
    budget: Annotated[
        int | None, typer.Option(help="Ask so many, drawn with the mix of kinds and hops of the whole.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Episodes per question.")] = 1,
    top_k: Annotated[int, typer.Option(help="Passages per search.")] = 3,
    max_turns: Annotated[int, typer.Option(help="Actions per episode, the answer included.")] = 4,
    max_searches: Annotated[int | None, typer.Option(help="Searches per episode; later ones find nothing.")] = None,
    max_query_chars: Annotated[int, typer.Option(help="Characters of a query; a longer one is not searched.")] = 8192,
    max_new_tokens_per_turn: Annotated[int, typer.Option(help="Tokens sampled in one action.")] = 500,
    max_trajectory_tokens: Annotated[int, typer.Option(help="Prompt, actions and observations together.")] = 4096,
    max_observation_tokens: Annotated[int, typer.Option(help="Tokens of one observation.")] = 500,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seeds sampling, random passages and intervals.")] = 0,
    engine: Annotated[
        str, typer.Option(help="What samples the policy: transformers, vllm or openai.")
    ] = "transformers",
    engine_set: Annotated[
        list[str] | None,
        typer.Option(help="A setting of the engine, repeatable: url=http://127.0.0.1:8000.", metavar="NAME=VALUE"),
    ] = None,
    max_batch: Annotated[int, typer.Option(help="Episodes in flight; transformers decodes them together.")] = 64,
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16 (autocast).")] = "float32",
    answers_from: Annotated[
        Path | None, typer.Option(help="Questions whose answers scripted:closed_book guesses from.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="Question format, or module:object of your own.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    corpus_index: Annotated[
        Path | None, typer.Option(help="Index folder over the same corpus: for --controls where --index is a server.")
    ] = None,
    outage_retries: Annotated[int, typer.Option(help="Times that an episode is asked again after an outage.")] = 2,
    ray_address: Annotated[
        str | None, typer.Option(help="Shard episodes over this Ray cluster (auto), or a Ray of this machine (local).")
    ] = None,
    ray_workers: Annotated[int, typer.Option(help="On Ray: processes that play episodes.")] = 2,
    ray_engines: Annotated[int, typer.Option(help="On Ray: engines that sample.")] = 1,
    ray_engine_gpus: Annotated[float, typer.Option(help="On Ray: GPUs of each engine.")] = 0.0,
    overwrite: Annotated[bool, typer.Option(help="Replace an evaluation in --out.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the figures to this file too.")
    ] = None,
) -> None:
    """Measure EM, F1, evidence, searches and tokens of a policy, with 95 % intervals and controls.

    Example: waymark evaluate runs/first/model --index indexes/tiny --questions worlds/tiny/questions.test.jsonl
    --out evaluations/first

    Example: waymark evaluate PeterJinGo/SearchR1-nq_hotpotqa_train-qwen2.5-7b-em-ppo --engine vllm --preset search_r1
    --index http://127.0.0.1:8000 --suite search_r1 --budget 500 --out evaluations/search_r1

    Example: waymark evaluate Qwen/Qwen2.5-3B --engine openai --engine-set url=http://127.0.0.1:8000
    --index indexes/tiny --questions worlds/tiny/questions.test.jsonl --out evaluations/served
    """
    from rich.console import Console
    from transformers.utils import logging

    from envs.search_env import EpisodeLimits
    from evaluation.console import print_result, print_suite
    from evaluation.job import EvaluationJob, run_job
    from evaluation.presets import with_preset
    from evaluation.suite_job import SuiteResult, run_suite
    from scripts.assignments import nested, parse_assignments, parse_shares
    from scripts.stages import StageBar

    if (questions is None) == (suite is None):
        raise ValueError("give either --questions, or --suite (multihop, search_r1), and not both")
    if data is not None and suite is None:
        raise ValueError("--data is the folder of a suite's sets: give --suite too, or name one file with --questions")
    limits = EpisodeLimits(
        max_turns=max_turns,
        max_searches=max_searches,
        max_query_chars=max_query_chars,
        max_new_tokens_per_turn=max_new_tokens_per_turn,
        max_trajectory_tokens=max_trajectory_tokens,
        max_observation_tokens=max_observation_tokens,
        top_k=top_k,
    )
    job = EvaluationJob(
        policy=policy,
        index=index,
        corpus_index=corpus_index,
        questions=questions or "",
        out=out,
        protocol=protocol,
        question_format=format,
        limits=limits,
        controls=controls is not False,
        skip_impossible_controls=controls is None,
        consistency=consistency,
        wordings=wordings,
        robustness=robustness,
        noise=noise,
        noise_curve=parse_shares(noise_curve or "", option="--noise-curve"),
        where=parse_assignments(where or [], option="--where"),
        limit=limit,
        budget=budget,
        samples=samples,
        temperature=temperature,
        seed=seed,
        answers_from=answers_from,
        max_batch=max_batch,
        engine=engine,
        engine_settings=nested(parse_assignments(engine_set or [], option="--engine-set")),
        dtype=dtype,  # type: ignore[arg-type]  # the engine refuses others, with a message
        trust_remote_code=trust_remote_code,
        overwrite=overwrite,
        outage_retries=outage_retries,
        ray_address=ray_address,
        ray_workers=ray_workers,
        ray_engines=ray_engines,
        ray_engine_gpus=ray_engine_gpus,
    )
    if preset is not None:
        sources = {name: context.get_parameter_source(name) for name in context.params}
        typed = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
        job = with_preset(job, preset, typed=typed)
    logging.disable_progress_bar()  # the stages have a bar of their own
    with StageBar() as bar:
        found = run_suite(job, suite, data=data, progress=bar) if suite is not None else run_job(job, progress=bar)
    for warning in found.told():
        typer.echo(f"warning: {warning}", err=True)
    if isinstance(found, SuiteResult):
        print_suite(found, Console())
    else:
        print_result(found, Console())
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found.record(), indent=2) + "\n", encoding="utf-8", errors="replace")


if __name__ == "__main__":
    from scripts.cli import run

    run(evaluate)
