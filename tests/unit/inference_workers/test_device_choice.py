"""The choice on a device is the choice on the host, whatever is asked for."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_workers.chat.engine import Sampling
from inference_workers.chat.gpu.device_choice import DeviceLogits
from inference_workers.chat.token_choice import NOT_FINITE, Asked, HostLogits

SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-5, 1e-3, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([1e-6, 0.1, 0.5, 0.9, 0.999, 1.0]),
    seed=st.integers(-(2**63), 2**63 - 1),
    logprobs=st.sampled_from([0, 0, 0, 3]),
)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([0.0, 0.1, 3.0, 100.0]),
    asked=st.lists(st.tuples(SAMPLINGS, st.integers(0, 9), st.booleans(), st.booleans()), min_size=1, max_size=7),
    unsound=st.sampled_from([None, None, np.nan, np.inf]),
)
def test_tokens_are_chosen_alike(
    seed: int, scale: float, asked: list[tuple[Sampling, int, bool, bool]], unsound: float | None
) -> None:
    source = np.random.default_rng(seed)
    rows = (source.normal(size=(len(asked) + 2, 130)) * scale).round(1).astype(np.float32)  # rounded: many are equal
    if unsound is not None:
        rows[1, 7] = unsound
    wanted = {
        number + 1: Asked(sampling, position, source.random(130) < 0.5 if masked else None, logprob)
        for number, (sampling, position, masked, logprob) in enumerate(asked)
    }
    there, here = DeviceLogits(torch.from_numpy(rows)).choices(wanted), HostLogits(rows).choices(wanted)
    assert there.keys() == here.keys()
    for number, choice in here.items():
        assert (there[number] is NOT_FINITE) == (choice is NOT_FINITE)
        assert (there[number].token, there[number].alternatives) == (choice.token, choice.alternatives)
        assert (there[number].logprob is None) == (choice.logprob is None)
        if choice.logprob is not None:
            assert abs((there[number].logprob or 0) - choice.logprob) < 1e-4
