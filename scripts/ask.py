"""Ask a policy one question and follow it: `waymark ask runs/first indexes/tiny "Who founded Lomira?"`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def ask(
    policy: Annotated[
        str,
        typer.Argument(
            help="Run folder, checkpoint, Hugging Face folder or id (with --engine openai the served model's, for its "
            "tokenizer), or scripted:NAME.",
            metavar="CHECKPOINT",
        ),
    ],
    index: Annotated[
        str,
        typer.Argument(
            help="Index folder, server (http://...), '{hybrid: [A, B]}', or .yaml/.json file of such a mapping."
        ),
    ],
    question: Annotated[str, typer.Argument(help="The question, in quotes; with --questions also an id.")],
    questions: Annotated[
        Path | None, typer.Option(help="File in which the question stands: its answer and supports are shown too.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Default: the run's, else waymark.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Passages per search. Limits default to the run's.")] = None,
    max_turns: Annotated[int | None, typer.Option(help="Actions, the answer included.")] = None,
    max_searches: Annotated[int | None, typer.Option(help="Searches; later ones find nothing.")] = None,
    max_new_tokens_per_turn: Annotated[int | None, typer.Option(help="Tokens sampled in one action.")] = None,
    max_trajectory_tokens: Annotated[int | None, typer.Option(help="Prompt, actions and observations.")] = None,
    max_observation_tokens: Annotated[int | None, typer.Option(help="Tokens of one observation.")] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seeds sampling.")] = 0,
    engine: Annotated[
        str, typer.Option(help="What samples the policy: transformers, vllm or openai.")
    ] = "transformers",
    engine_set: Annotated[
        list[str] | None,
        typer.Option(help="A setting of the engine, repeatable: url=http://127.0.0.1:8000.", metavar="NAME=VALUE"),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16. Default: the run's, else float32.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Show passages whole, not their beginning.")] = False,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", dir_okay=False, allow_dash=True, help="Write turns and end to this file too; - prints that alone."
        ),
    ] = None,
) -> None:
    """Print the path to an answer turn by turn: thought, query, passages, and the answer with what it cites.

    Example: waymark ask runs/first indexes/tiny "Who founded Lomira?"

    Example: waymark ask scripted:expert indexes/tiny tiny-test-00000 --questions worlds/tiny/questions.test.jsonl
    """
    import asyncio

    from evaluation.ask_console import ask_on_console
    from evaluation.ask_job import AskJob
    from scripts.assignments import nested, parse_assignments

    given = {
        "top_k": top_k,
        "max_turns": max_turns,
        "max_searches": max_searches,
        "max_new_tokens_per_turn": max_new_tokens_per_turn,
        "max_trajectory_tokens": max_trajectory_tokens,
        "max_observation_tokens": max_observation_tokens,
    }
    job = AskJob(
        policy=policy,
        index=index,
        question=question,
        questions=questions,
        protocol=protocol,
        limits={name: value for name, value in given.items() if value is not None},
        temperature=temperature,
        seed=seed,
        engine=engine,
        engine_settings=nested(parse_assignments(engine_set or [], option="--engine-set")),
        dtype=dtype,  # type: ignore[arg-type]  # the engine refuses others, with a message
        trust_remote_code=trust_remote_code,
    )
    prints_json = json_file == Path("-")
    record = asyncio.run(ask_on_console(job, shows=not prints_json, whole=whole))
    text = json.dumps(record, indent=2) + "\n"
    if prints_json:
        typer.echo(text, nl=False)
    elif json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(text, encoding="utf-8", errors="replace")


if __name__ == "__main__":
    from scripts.cli import run

    run(ask)
