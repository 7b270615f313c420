import pytest

from rewards.parameter import flag, one_of, opened_judge
from rewards.reward import share_parameter, whole_parameter
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


def test_whole_numbers_are_not_rounded_and_shares_are_no_percentages() -> None:
    assert whole_parameter("r", "p", 0) == 0 and share_parameter("r", "p", 1) == 1.0
    for value in (1.9, 2.0, True, "2", None, -1):
        with pytest.raises(ValueError, match=r"reward r: p must be a whole number >= 0, got"):
            whole_parameter("r", "p", value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"reward r: p must be a whole number >= 2, got 1"):
        whole_parameter("r", "p", 1, minimum=2)
    for share in (0, 60, 1.0001):
        with pytest.raises(ValueError, match=r"reward r: p must be above 0 and at most 1, got"):
            share_parameter("r", "p", share)
    with pytest.raises(ValueError, match=r"reward r: p must be a finite number"):
        share_parameter("r", "p", float("nan"))
