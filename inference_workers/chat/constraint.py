"""Answers that obey a JSON schema: which tokens may come next. The only module that imports llguidance."""

from __future__ import annotations

import llguidance
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from schemas.errors import InvalidRequest


class Constraints:
    """The vocabulary, read once for all schemas."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, end: int) -> None:
        """vocabulary: width of the model's logits. end: the token that ends an answer."""
        self._vocabulary = vocabulary
        self._tokens = llguidance.LLTokenizer(tokenizer.to_str(), n_vocab=vocabulary, eos_token=end)

    def of(self, schema: str) -> Constraint:
        """Raises InvalidRequest if the schema is none, has what is not supported, or cannot be met."""
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
