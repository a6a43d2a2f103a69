"""Scales that make activations easy to round to 8 bits: channels with large values are divided, and their weights multiplied.

Method: Xiao et al., "SmoothQuant", 2023, arXiv:2211.10438, with strength 1/2. Factors are powers of two, so that they are exact, and the
same where the last bits of a sum differ.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from inference_workers.chat.linears import Linear

# Any text of the kinds that a chat model reads.
TEXT = """What is the capital of France, and why is it known? The capital of France is Paris. It is known for its museums, such as the Louvre, \
for the Eiffel Tower, built in 1889, and for its food. 1. Take 250 g of flour, 3 eggs and half a litre of milk. 2. Mix them until the dough \
is smooth. 3. Let it rest for 30 minutes.

def mean(values: list[float]) -> float:
    return sum(values) / len(values)

Dear Mrs Miller, thank you for your letter of 12 March. I'm sorry that the parcel hasn't arrived yet; we will send another one tomorrow. \
{"name": "Ada", "born": 1815, "languages": ["English", "French"]} Le chat est sur la table. She didn't know whether he would come back, \
but the train was late, and it had begun to rain. If x + 3 = 10, then x = 7, because 10 - 3 = 7."""


class Recorder:
    """Linears that note the largest absolute value of each input channel, in the order in which they are made."""

    def __init__(self) -> None:
        self.maxima: list[torch.Tensor] = []

    def linear(self, weight: torch.Tensor) -> Linear:
        """weight: (outputs, inputs)."""
        weight, number = weight.float(), len(self.maxima)
        self.maxima.append(torch.zeros(weight.shape[1]))

        def apply(x: torch.Tensor) -> torch.Tensor:
            self.maxima[number] = torch.maximum(self.maxima[number], x.abs().amax(0))
            return torch.nn.functional.linear(x, weight)

        return apply


def factors(maxima: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What each input channel is divided by, float32 (inputs,), powers of two. maxima: (inputs,); weight: (outputs, inputs)."""
    wanted = (maxima.clamp_min(1e-5) / weight.float().abs().amax(0).clamp_min(1e-5)).sqrt()
    return (wanted / wanted.median()).log2().round().exp2()


def smoothed(
    make: Callable[[torch.Tensor, torch.Tensor], Linear], maxima: list[torch.Tensor]
) -> Callable[[torch.Tensor], Linear]:
    """A factory of linears that takes the recorded maxima in the order in which linears are made. make: of weight, float (outputs,
    inputs), and factors."""
    left = iter(maxima)

    def linear(weight: torch.Tensor) -> Linear:
        return make(weight, factors(next(left), weight))

    return linear
