import pytest

from rewards.parameter import flag, one_of, opened_judge
from tests.rewards.fake_judge import FakeJudge


def test_words_and_switches_are_checked_by_name() -> None:
    assert one_of("r", "p", "mean", ("mean", "sum")) == "mean"
    with pytest.raises(ValueError, match=r"reward r: p must be one of mean, sum; got 'max'"):
        one_of("r", "p", "max", ("mean", "sum"))
    assert flag("r", "p", False) is False
    with pytest.raises(ValueError, match=r"reward r: p must be true or false, got 1"):
        flag("r", "p", 1)  # type: ignore[arg-type]


def test_judges_are_opened_by_name_or_settings_and_taken_as_they_are() -> None:
    assert opened_judge(None) is None
    for spec in ("rules", {"kind": "rules"}):
        judge = opened_judge(spec)
        assert judge is not None and judge.name == "rules"
    fake = FakeJudge(lambda request: 1.0)
    assert opened_judge(fake) is fake
    with pytest.raises(ValueError, match="judge"):
        opened_judge("oracle")


@pytest.mark.parametrize("spec", [True, 3, ["rules"], float("nan")])
def test_what_is_no_judge_is_refused_before_anything_is_scored(spec: object) -> None:
    with pytest.raises(ValueError, match=r"judge must be the name of a judge, its settings or a judge, got"):
        opened_judge(spec)  # type: ignore[arg-type]
