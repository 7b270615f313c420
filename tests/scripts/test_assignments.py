import pytest

from scripts.assignments import nested, parse_assignments


def test_values_are_read_as_yaml_under_their_dotted_names() -> None:
    values = parse_assignments(["a.b=1.5", "a.c=null", "d=x=y"], option="--set")
    assert nested(values) == {"a": {"b": 1.5, "c": None}, "d": "x=y"}


@pytest.mark.parametrize(
    ("texts", "message"), [(["a"], "write --set name=value"), (["=1"], "write --set"), (["a=1", "a=2"], "'a' twice")]
)
def test_what_is_no_assignment_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_assignments(texts, option="--set")


def test_a_value_cannot_be_a_parent_too() -> None:
    with pytest.raises(ValueError, match="a already has a value"):
        nested({"a": "1", "a.b": "2"})
    with pytest.raises(ValueError, match="not YAML"):
        nested({"a": "["})
