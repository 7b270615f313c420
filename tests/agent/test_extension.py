import sys
from pathlib import Path

import pytest

from agent.extension import load_object


def test_a_builtin_by_name() -> None:
    assert load_object("two", kind="number", builtins={"two": 2}) == 2


def test_a_dotted_object_of_a_module() -> None:
    assert load_object("pathlib:Path.cwd", kind="function", builtins={}) == Path.cwd


def test_a_module_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_private_reward.py").write_text("VALUE = 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_object("my_private_reward:VALUE", kind="number", builtins={}) == 7


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("three", r"no number is named 'three'; built-in numbers: one, two; your own is named as 'module:object'"),
        ("thre:x.py", r"cannot be imported"),
        ("tow", r"did you mean 'two'\? built-in numbers"),
        ("/a/own.py:x", r"'/a/own.py:x' names a file: give the module's name, own:x"),
        ("module:", r"does not name a number: the form is 'module:object'"),
        (":object", r"does not name a number"),
        ("no_such_module:x", r"cannot be imported: No module named 'no_such_module'"),
        ("json:nothing", r"json has no 'nothing'"),
    ],
)
def test_what_cannot_be_found_says_what_can(reference: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_object(reference, kind="number", builtins={"one": 1, "two": 2})
