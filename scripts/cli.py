"""`waymark VERB`: finds the verbs, loads only the one that is called, and turns errors into exit codes.

A verb is a file of this folder that defines a function of the file's name (`make_world.py`, `make_world`), typed for
typer. The list of verbs comes from reading the sources, not from importing them, so `waymark --help` needs no torch.

Exit codes: 0 on success, 2 on bad input (one message on standard error), 130 on Ctrl-C. Anything else is a fault of
Waymark's own and shows its traceback; WAYMARK_TRACEBACK=1 shows one for bad input too.

    waymark --help
    waymark make-world --preset tiny --out worlds/tiny        # python -m scripts.make_world is the same code
"""

import ast
import errno
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from retrieval.setting_words import in_words
from scripts.threads import set_thread_budget, take_threads

BAD_INPUT = (ValueError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""What a verb raises where the user can put it right: exit code 2 and the message alone."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
"""Errors of the operating system that are bad input too: the disk cannot take what is written."""

INTERRUPTED = 130
"""The shell's exit code for a program that Ctrl-C ended."""

HELP_OPTIONS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

THREADS = "--threads N, before the verb or after it: how many threads torch, numba and OpenMP may start."
"""Closes every verb's help: the option is taken out before the verb's own are read."""

STYLE: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
"""Plain help: the boxes of rich cut the names of long options short."""

ORDER = (
    *("quickstart", "make-world", "build-index", "evaluate-index", "serve-index", "serve-mcp"),
    *("train", "evaluate", "compare", "view", "ablate"),
)
"""The order of the road through the house; verbs that are not in it follow by name."""


def verbs(folder: Path = Path(__file__).parent) -> dict[str, str]:
    """Every verb and the first line of its function's docstring, read from the sources in `folder`."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == path.stem:
                found[path.stem.replace("_", "-")] = (ast.get_docstring(node) or "").split("\n", 1)[0]
    return dict(
        sorted(found.items(), key=lambda item: (ORDER.index(item[0]) if item[0] in ORDER else len(ORDER), item))
    )


class _LazyVerbs(TyperGroup):
    """Lists every verb by its first line and imports a verb only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(verbs())

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(verbs().items()))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        module = cmd_name.replace("-", "_")  # `make_world`, as the module is called, is understood too
        verb = module.replace("_", "-")
        if verb not in verbs():
            raise ValueError(f"there is no verb {cmd_name!r}; the verbs are {', '.join(verbs())}")
        return _command(verb, getattr(importlib.import_module(f"scripts.{module}"), module))


def _command(name: str, function: Callable[..., Any]) -> Any:
    single = typer.Typer(**STYLE)
    single.command(name, help=_help_text(function), epilog=THREADS, context_settings=HELP_OPTIONS)(function)
    return typer.main.get_command(single)


def _help_text(function: Callable[..., Any]) -> str:
    """A verb's docstring with its examples kept as they are written, not wrapped like prose."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(f"\b\n{text}" if text.startswith("Example") else text for text in paragraphs)


app = typer.Typer(
    cls=_LazyVerbs,
    name="waymark",
    no_args_is_help=True,
    **STYLE,
    context_settings=HELP_OPTIONS,
    help="Train search agents with process rewards: index, rollouts, per-turn credit in GRPO, evaluation.",
    subcommand_metavar="VERB [ARGUMENTS]",
    epilog="waymark VERB --help shows a verb's options and an example.",
)


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda wanted: _print_version(wanted),
            help="Print the version and exit.",
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads for torch, numba and OpenMP; may stand after the verb too. "
            "Default: WAYMARK_THREADS, else the physical cores.",
            metavar="N",
        ),
    ] = None,
) -> None:
    """Options of every verb. `threads` is taken out before typer sees the arguments; it stands here for --help."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"waymark {version('waymark')}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console command: run the verb that `arguments` (default: the process's) name, and exit."""
    _exit_with(app, sys.argv[1:] if arguments is None else list(arguments), prog_name="waymark")


def run(verb: Callable[..., Any]) -> NoReturn:
    """What a verb's file does as `python -m scripts.VERB`: the same as `waymark VERB`, and exit."""
    module = verb.__name__
    _exit_with(_command(module.replace("_", "-"), verb), sys.argv[1:], prog_name=f"python -m scripts.{module}")


def _exit_with(command: Callable[..., Any], arguments: list[str], *, prog_name: str) -> NoReturn:
    try:
        threads, rest = take_threads(arguments)
        set_thread_budget(threads, os.environ)
        command(rest, prog_name=prog_name)
    except KeyboardInterrupt:
        _leave_interrupted()
    except SystemExit as done:  # how typer leaves: with --help, with a usage error, and on Ctrl-C inside a verb
        if done.code == INTERRUPTED:
            _leave_interrupted()
        raise
    except (*BAD_INPUT, OSError) as error:
        if not isinstance(error, BAD_INPUT) and getattr(error, "errno", None) not in NO_ROOM:
            raise
        if os.environ.get("WAYMARK_TRACEBACK"):
            traceback.print_exc()
        print(f"waymark: {describe_error(error, arguments)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _leave_interrupted() -> NoReturn:
    print("interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)


def describe_error(error: BaseException, arguments: Sequence[str] = ()) -> str:
    """The message for a person: a pydantic error as one line a field, an operating-system error with its path.

    `arguments` is the command line: a field that was given there is named as it was typed.
    """
    if isinstance(error, ValidationError):
        return "\n  ".join(_field_error(problem, arguments) for problem in error.errors(include_url=False))
    if isinstance(error, OSError) and error.strerror:
        advice = "; free some, or write elsewhere" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}{advice}"
    return str(error) or type(error).__name__


def _field_error(problem: Any, arguments: Sequence[str]) -> str:
    place = ".".join(map(str, problem["loc"]))
    if not place:  # a rule across fields names them itself
        return in_words(problem)
    option = f"--{place.replace('_', '-')}"
    if any(argument.removeprefix("--set=").startswith(f"{place}=") for argument in arguments):
        place = f"--set {place}"
    elif any(argument == option or argument.startswith(f"{option}=") for argument in arguments):
        place = option
    return f"{place}: {in_words(problem)}"


if __name__ == "__main__":
    main()
