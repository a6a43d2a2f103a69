"""The tokens of one answer, as every reader of `chat-tokens-v1` puts them together: each token once, in order, whoever made it. Pure.

A worker that takes an answer over begins with a record of a higher attempt, and goes on from the tokens that lie before that record.
Records of lower attempts behind it are those of an owner that does not know yet that it lost the request: they do not count. So all
readers of the partition see the same sequence, also if both owners write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.vocabulary import FinishReason


@dataclass(frozen=True, slots=True)
class StreamedToken:
    """text: what the token adds to the answer. alternatives: probable tokens at the same position, as in the record."""

    sequence: int
    token: int
    text: str
    logprob: float | None = None
    alternatives: Sequence[Mapping[str, Any]] = ()


@dataclass(slots=True)
class TokenStream:
    """attempt, sequence: the position from which a reader goes on; by default the beginning. Later: the attempt that counts, and the
    position of the next token. end: the fields of the last record, once it came. made_ms: when the first token was made. gaps: records
    that begin behind what was read; their tokens are left out, since those before them are missing."""

    attempt: int = 0
    sequence: int = 0
    end: Mapping[str, Any] | None = None
    made_ms: int = 0
    gaps: int = 0
    begun: Mapping[str, Any] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> list[StreamedToken]:
        """The tokens of a record of this answer that were not read before. record: the fields of a `ChatTokens`."""
        if self.end is not None or record["attempt"] < self.attempt:
            return []
        self.attempt = record["attempt"]
        self.begun = self.begun or record
        known = self.sequence - record["sequence"]
        if known < 0 and record["tokens"]:
            self.gaps += 1
            tokens = []
        else:
            tokens = record["tokens"][max(0, known) :]
        if tokens and not self.made_ms:
            self.made_ms = record["made_ms"]
        found = [
            StreamedToken(self.sequence + i, one["token"], one["text"], one["logprob"], one["alternatives"])
            for i, one in enumerate(tokens)
        ]
        self.sequence += len(found)
        if record["last"]:
            self.end = record
        return found

    @property
    def reason(self) -> str:
        """Why the answer ended; empty while it goes on."""
        return "" if self.end is None else (self.end["finish_reason"] or FinishReason.FAILED)
