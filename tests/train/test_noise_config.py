"""ZeroSearch's curriculum of noise, step by step."""

import pytest
from pydantic import ValidationError

from train.noise_config import NoiseConfig


def test_the_curriculum_is_zero_searchs() -> None:
    noise = NoiseConfig(start=0.1, end=0.5, base=4.0)
    for step in (0, 7, 50, 99):
        expected = 0.1 + (4.0 ** (step / 100) - 1) / (4.0 - 1) * (0.5 - 0.1)
        assert noise.share(step, 100) == pytest.approx(expected, abs=1e-12)
    assert noise.share(100, 100) == noise.share(500, 100) == pytest.approx(0.5)


def test_base_one_is_linear_and_the_limit_of_bases_near_one() -> None:
    linear, near = NoiseConfig(base=1.0), NoiseConfig(base=1.0 + 1e-6)
    assert linear.share(25, 100) == pytest.approx(0.125)
    assert near.share(25, 100) == pytest.approx(0.125, abs=1e-5)


def test_it_may_end_before_the_run() -> None:
    assert NoiseConfig(end=0.4, steps=10).share(10, 100) == pytest.approx(0.4)


@pytest.mark.parametrize("fields", [{"end": 1.2}, {"start": -0.1}, {"base": 0}, {"steps": 0}, {"rise": 2}])
def test_what_is_no_curriculum_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        NoiseConfig(**fields)


def test_no_noise_at_all_is_left_out_instead() -> None:
    with pytest.raises(ValidationError, match=r"leave rollout\.noise out"):
        NoiseConfig(start=0.0, end=0.0)
