"""Types for argparse: numbers of a command line with their range, which the error message names."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

MOST = 2**31 - 1


def whole(least: int = 1, most: int = MOST) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def number(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
        return found

    return number


def real(least: float = 0.0, most: float = 1e12, *, above: bool = False) -> Callable[[str], float]:
    """A finite number from `least` to `most`. above: whether `least` itself is excluded."""

    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not (least < found if above else least <= found) or not found <= most or math.isnan(found):
            raise argparse.ArgumentTypeError(
                f"{text} is not {'above' if above else 'from'} {least:g} {'and at most' if above else 'to'} {most:g}"
            )
        return found

    return number
