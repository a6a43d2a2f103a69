"""The word error rate of the benchmark of speech."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.benchmarks.speech import rate


class Deaf:
    """Hears "one" in everything that is loud."""

    def transcribe(self, sounds: Any) -> Any:
        return [[SimpleNamespace(text="one")] if sound.max() > 0.5 else [] for sound in sounds]


def test_errors_are_counted_over_the_words_that_were_spoken() -> None:
    loud, faint = np.ones(10, np.float32), np.zeros(10, np.float32)
    spoken = [(loud, ["one"]), (loud, ["two"]), (faint, ["one", "two"]), (loud, [])]
    found = rate("voices", Deaf(), spoken, "four strings")  # type: ignore[arg-type]
    assert (found["value"], found["words"]) == (100.0, 4)
    assert (found["substituted"], found["left_out"], found["put_in"], found["whole_right_percent"]) == (1, 2, 1, 25.0)
