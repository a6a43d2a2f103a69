"""Answers that obey a JSON schema: which tokens may come next. The only module that imports llguidance."""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

import llguidance
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from schemas.errors import InvalidRequest

# A number's multiples are read by an automaton with a state for each remainder, and several `multipleOf` by one for their least
# common multiple. The library has no bound of its own for it: with 1,000,003 it computes for seconds, with more until memory ends.
MOST_REMAINDERS = 10_000
MOST_EXPONENT = 20
MOST_PRODUCT = 2**32 - 1  # the library multiplies them in 32 bits, all with as many decimal places


class Constraints:
    """The vocabulary, read once for all schemas."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, end: int) -> None:
        """vocabulary: width of the model's logits. end: the token that ends an answer."""
        self._vocabulary = vocabulary
        self._tokens = llguidance.LLTokenizer(tokenizer.to_str(), n_vocab=vocabulary, eos_token=end)

    def of(self, schema: str) -> Constraint:
        """Raises InvalidRequest if the schema is none, has what is not supported, or cannot be met. Computes for at most some seconds."""
        _refuse_many_remainders(schema)
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(schema)
        except ValueError as error:
            raise InvalidRequest(f"the schema is no JSON object: {error}") from error
        constraint = Constraint(llguidance.LLMatcher(self._tokens, grammar), self._vocabulary)
        constraint.allowed()
        return constraint


class Constraint:
    """One answer's state."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._refuse_errors()

    def allowed(self) -> npt.NDArray[np.bool_]:
        """What may come next, bool (vocabulary,). Raises InvalidRequest if nothing may, or a limit of the parser is reached."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._refuse_errors()
        allowed = np.zeros(self._vocabulary, np.bool_)
        bits = np.unpackbits(mask, bitorder="little")[: self._vocabulary].astype(np.bool_)
        allowed[: len(bits)] = bits
        if not allowed.any():
            raise InvalidRequest("the schema cannot be met")
        return allowed

    def add(self, token: int) -> None:
        """Raises InvalidRequest if the token does not fit the schema."""
        self._matcher.consume_token(token)
        self._refuse_errors()

    def _refuse_errors(self) -> None:
        if self._matcher.is_error():
            raise InvalidRequest(f"the schema cannot be used: {self._matcher.get_error()[:400]}")


def _refuse_many_remainders(schema: str) -> None:
    """Raises InvalidRequest. Counts each `multipleOf`, wherever it stands: `allOf` and references combine them."""
    multiples: set[Decimal] = set()

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        multiples.update(value for name, value in pairs if name == "multipleOf" and isinstance(value, Decimal))
        return dict(pairs)

    try:
        json.loads(schema, object_pairs_hook=note, parse_int=Decimal, parse_float=Decimal)
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise InvalidRequest(f"the schema is no JSON: {error}") from error
    scaled: list[int] = []
    for number in multiples:
        inside = 10**-MOST_EXPONENT <= abs(number) <= 10**MOST_EXPONENT
        exact = Fraction(abs(number)) * 10**MOST_EXPONENT if inside else Fraction(1, 2)
        if exact.denominator > 1:  # digits that are cut off would hide remainders
            raise InvalidRequest(
                f"the schema has the multipleOf {number:.3g}; it must be between 1e-{MOST_EXPONENT} and 1e{MOST_EXPONENT}, "
                f"with at most {MOST_EXPONENT} decimal places"
            )
        scaled.append(exact.numerator)
    remainders = 1
    for whole in scaled:
        remainders = math.lcm(remainders, _without_zeros(whole))
        if remainders > MOST_REMAINDERS:
            raise InvalidRequest(
                f"the schema's multipleOf have a least common multiple of more than {MOST_REMAINDERS}, decimal places left out: "
                "an answer cannot be held to that"
            )
    for _ in range(MOST_EXPONENT):
        if any(whole % 10 for whole in scaled):
            break
        scaled = [whole // 10 for whole in scaled]
    if len(scaled) > 1 and min(math.prod(scaled), math.lcm(*scaled) ** 2) > MOST_PRODUCT:
        raise InvalidRequest("the schema's multipleOf are too far apart: an answer cannot be held to that")


def _without_zeros(number: int) -> int:
    """A decimal place or a final zero is one more state, not ten times as many."""
    while number and number % 10 == 0:
        number //= 10
    return number or 1
