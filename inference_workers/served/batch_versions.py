"""Which versions answer one batch, row by row: the live versions, and challengers for their share of the keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference_workers.served.model_arm import Loaded, Mark
from inference_workers.task import Version, Versions
from schemas.vocabulary import Arm
from streams.rows import Place


def in_share(key: bytes | None, request_id: str, share: float, salt: str) -> bool:
    """Whether a challenger answers. The result is the same for all requests with the same key, on every worker."""
    raw = salt.encode() + b"/" + (key if key is not None else request_id.encode())
    return int.from_bytes(hashlib.blake2b(raw, digest_size=4).digest()) < share * 2**32


@dataclass
class Batch:
    """The versions that answer one batch, from its first row to its last: no swap changes them.

    failures: errors of challengers that could not answer, by digest. marks: the announcements that the batch carries, by model
    and arm.
    """

    live: Versions
    canaries: Sequence[Loaded]
    shadows: Sequence[Loaded]
    failures: dict[str, Exception] = field(default_factory=dict)
    marks: dict[tuple[str, str], dict[Place, Mark]] = field(default_factory=dict)

    def versions(self) -> list[Version]:
        """All of them, whatever they answer for."""
        return [*self.live.values(), *(one.version for one in (*self.canaries, *self.shadows))]

    def arms(self, keys: Sequence[bytes | None], request_ids: Sequence[str]) -> list[tuple[list[int] | None, Versions]]:
        """The rows that each set of versions answers; None stands for all rows."""
        if not self.canaries:
            return [(None, self.live)]
        rows: dict[tuple[bool, ...], list[int]] = {}
        for row, (key, request_id) in enumerate(zip(keys, request_ids, strict=True)):
            answering = tuple(in_share(key, request_id, c.announced.share, c.announced.salt) for c in self.canaries)
            rows.setdefault(answering, []).append(row)
        return [(which, self._with_canaries(answering)) for answering, which in rows.items()]

    def _with_canaries(self, answering: Sequence[bool]) -> Versions:
        canaries = [canary for canary, answers in zip(self.canaries, answering, strict=True) if answers]
        return {**self.live, **{canary.announced.model: canary.version for canary in canaries}}

    def shadowed(self, request_ids: Sequence[str]) -> list[tuple[str, Version, list[int]]]:
        """Model, version and sampled rows of each shadow."""
        sampled: list[tuple[str, Version, list[int]]] = []
        for shadow in self.shadows:
            announced = shadow.announced
            rows = [row for row, name in enumerate(request_ids) if in_share(None, name, announced.share, announced.salt)]
            sampled.append((announced.model, shadow.version, rows))
        return sampled

    def failed(self, versions: Versions, error: Exception) -> None:
        """Note that challengers among these versions failed on rows that the live versions answered. They are dropped after the
        batch."""
        for challenger in (*self.canaries, *self.shadows):
            if versions.get(challenger.announced.model) is challenger.version:
                self.failures.setdefault(challenger.announced.digest, error)

    def without_failed(self, versions: Versions) -> Versions:
        """These versions, with the live one, if there is one, in place of each challenger that has failed in this batch."""
        failed = {
            model for model, version in versions.items() if version.arm != Arm.LIVE and version.folder.digest in self.failures
        }
        kept = {model: version for model, version in versions.items() if model not in failed}
        return {**kept, **{model: self.live[model] for model in failed & self.live.keys()}}
