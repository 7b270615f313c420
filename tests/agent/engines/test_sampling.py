import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from agent.engine import SamplingParams
from agent.engines.sampling import check_params, draw, processed_logprobs, uniforms


def test_uniforms_depend_on_the_seed_alone_and_a_longer_draw_begins_alike() -> None:
    assert np.array_equal(uniforms(7, 5), uniforms(7, 50)[:5])
    assert not np.array_equal(uniforms(7, 5), uniforms(8, 5))
    assert uniforms(-1, 3).shape == (3,)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 3), st.integers(0, 12), st.floats(0.05, 1))
def test_processing_equals_transformers_warpers(seed: int, temperature: float, top_k: int, top_p: float) -> None:
    logits = torch.randn((1, 10), generator=torch.Generator().manual_seed(seed))
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    got = processed_logprobs(logits, torch.tensor([temperature]), torch.tensor([top_k]), torch.tensor([top_p]))
    assert torch.equal(got.isinf(), expected.isinf())
    assert torch.allclose(got.exp(), expected.softmax(-1), atol=1e-6)


def test_rows_without_a_filter_are_not_filtered() -> None:
    logits = torch.randn((2, 10), generator=torch.Generator().manual_seed(0))
    got = processed_logprobs(logits, None, torch.tensor([0, 3]), torch.tensor([1.0, 1.0]))
    assert torch.allclose(got[0], logits[0].log_softmax(-1))
    assert got[1].isfinite().sum() == 3


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    rows = torch.from_numpy(uniforms(1, 20_000))
    tokens = draw(probabilities.log().expand(len(rows), 4), rows)
    shares = torch.bincount(tokens, minlength=4) / len(rows)
    assert torch.allclose(shares, probabilities, atol=0.015)
    assert shares[1] == 0


@pytest.mark.parametrize("uniform", [0.0, 0.5, np.nextafter(1.0, 0.0)])
def test_impossible_tokens_are_never_drawn_even_at_the_ends(uniform: float) -> None:
    logprobs = torch.tensor([[-torch.inf, -torch.inf, 0.0, -torch.inf]])
    assert draw(logprobs, torch.tensor([uniform], dtype=torch.float64)).tolist() == [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; at least 1"),
        ({"temperature": -0.1}, "temperature is -0.1; allowed are 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0; allowed"),
        ({"top_k": -1}, "top_k is -1; allowed"),
        ({"stop": ("",)}, "a stop string is empty"),
    ],
)
def test_parameters_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_params(SamplingParams(**{"max_new_tokens": 4, **change}))  # type: ignore[arg-type]
