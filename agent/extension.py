"""Objects named in a config: a built-in by its short name, or a user's own as `module:object`."""

import difflib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def load_object(reference: str, *, kind: str, builtins: Mapping[str, T]) -> T:
    """The object that a config names.

    A reference with a colon is `module:object` (`object` may be dotted). Modules are looked for where Python looks, and
    then in the current folder, which is appended to `sys.path`: the console command does not put it there itself.

    Args:
        reference: a key of `builtins`, or `module:object`.
        kind: what is being named ("reward", "protocol", ...), for messages.
        builtins: the objects that have a short name.

    Raises:
        ValueError: no such built-in, a malformed reference, a module that cannot be imported, or an attribute that the
            module lacks. The message lists the built-ins and shows the form.
    """
    if reference in builtins:
        return builtins[reference]
    kinds = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    advice = f"built-in {kinds}: {', '.join(sorted(builtins)) or 'none'}; your own is named as 'module:object'"
    module_name, colon, attribute = reference.partition(":")
    if not colon:
        near = difflib.get_close_matches(reference, builtins, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no {kind} is named {reference!r}; {hint}{advice}")
    if not module_name.strip() or not attribute.strip():
        raise ValueError(f"{reference!r} does not name a {kind}: the form is 'module:object'; {advice}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        found = importlib.import_module(module_name)
    except ImportError as error:
        if "/" in module_name or module_name.endswith(".py"):
            raise ValueError(
                f"the {kind} {reference!r} names a file: give the module's name, {Path(module_name).stem}:{attribute}, "
                f"and put its folder on PYTHONPATH, or run from it; {advice}"
            ) from error
        raise ValueError(
            f"the {kind} {reference!r} cannot be imported: {error}. Put the module's folder on PYTHONPATH, or run "
            f"from it; {advice}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"the {kind} {reference!r} was not found: {module_name} has no {attribute!r}; {advice}")
        found = getattr(found, part)
    return found  # type: ignore[return-value]
