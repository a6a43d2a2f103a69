"""Every error that the loop acts on, one tree. The class says what becomes of the record, or of the process: its `fate`.

MillraceError
├── RecordError            the record is set aside: dead letter, and a `failed` answer to its caller
│   ├── UndecodableRecord     its bytes are not what its schema says
│   ├── InvalidRequest        it decodes, but asks for something that cannot be done
│   ├── MediaRefused          its image, video or sound is missing, changed, too large or unreadable
│   ├── FeaturesRefused       features that its task requires are unavailable, and the task's policy is to refuse
│   ├── ImpossibleEvent       an event that cannot have happened: a time in the future, a price below zero, an unknown kind
│   ├── RepeatedEvent         the same event came before, within the deduplication window
│   ├── RecordTooLarge        it, its headers or its result exceed a limit
│   ├── RetriesExhausted      a dependency did not come back within its retries; neither the record nor the task is at fault
│   ├── Unwritable            a topic refuses what would be written for it: too large, or malformed
│   └── PoisonRecord          the task failed on it alone, again and again, or the process died of it
├── RetryLater             the record is tried again after a delay: the cause may go away
│   ├── DependencyUnavailable the same for its whole batch: what all of them need does not answer
│   └── BatchTooLarge         nothing is wrong with its records: the halves of the batch are tried at once
├── TransactionAborted     the transaction did not happen: the loop goes back to the committed offsets
├── Fenced                 the broker refuses this producer: it is rebuilt once; fenced again, the process stops
│   └── MemberFenced          another process has this static member's name: the process stops
└── Stop                   the process, or the command, stops and says why
    ├── BadSettings           a setting has a value that cannot be used
    ├── BrokerUnavailable     no broker or registry answered within the limit
    ├── SchemaRefused         a schema would break readers or writers of the topic
    ├── ModelRefused          a model folder is incomplete, changed or of a kind that is not loaded
    ├── StandsStill           a partition has records to read, and its committed offset does not move
    └── DeadLetterUnwritable  a record could be neither processed nor set aside

Further subclasses of Stop lie beside the commands that raise them; a test keeps all codes unique.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Fate(Enum):
    """What the loop does about an error."""

    DEAD_LETTER = "the record is set aside"
    RETRY = "the record is tried again later"
    REWIND = "the loop goes back to the committed offsets"
    STOP = "the process stops"


class MillraceError(Exception):
    """Root of the tree. `code` is stable, short and unique: it travels in headers, results and metrics."""

    code = "error"
    fate: ClassVar[Fate] = Fate.STOP


class RecordError(MillraceError):
    code = "record"
    fate = Fate.DEAD_LETTER


class UndecodableRecord(RecordError):
    code = "undecodable"


class InvalidRequest(RecordError):
    code = "invalid"


class MediaRefused(RecordError):
    code = "media"


class FeaturesRefused(RecordError):
    code = "features"


class ImpossibleEvent(RecordError):
    code = "impossible"


class RepeatedEvent(RecordError):
    code = "repeated"


class RecordTooLarge(RecordError):
    code = "too-large"


class RetriesExhausted(RecordError):
    code = "gave-up"


class Unwritable(RecordError):
    code = "unwritable"


class PoisonRecord(RecordError):
    code = "poison"


class RetryLater(MillraceError):
    code = "retry"
    fate = Fate.RETRY


class DependencyUnavailable(RetryLater):
    code = "unavailable"


class BatchTooLarge(RetryLater):
    code = "batch-too-large"


class TransactionAborted(MillraceError):
    """indefinite: it is unknown whether the broker committed, so the producer must be rebuilt. unwritable: the topic that
    refused a record because of its size or form; every retry of the same record is refused too."""

    code = "aborted"
    fate = Fate.REWIND

    def __init__(self, message: str, *, indefinite: bool = False, unwritable: str = "") -> None:
        super().__init__(message)
        self.indefinite = indefinite
        self.unwritable = unwritable


class Fenced(MillraceError):
    """librdkafka raises it both if another process has the transactional id and if the broker ended a transaction at its
    time-out."""

    code = "fenced"
    fate = Fate.REWIND


class MemberFenced(Fenced):
    code = "member-fenced"
    fate = Fate.STOP


class Stop(MillraceError):
    code = "stop"


class BadSettings(Stop):
    code = "bad-settings"


class BrokerUnavailable(Stop):
    code = "broker-unavailable"


class SchemaRefused(Stop):
    code = "schema-refused"


class ModelRefused(Stop):
    code = "model-refused"


class StandsStill(Stop):
    code = "stands-still"


class DeadLetterUnwritable(Stop):
    code = "dead-letter-unwritable"
