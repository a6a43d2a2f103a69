"""Every error of ours, one tree. The class says what becomes of the record, or of the process.

MillraceError
├── RecordError            the record is set aside: dead letter, and a `failed` answer to its caller
│   ├── UndecodableRecord     its bytes do not say what its schema says
│   ├── InvalidRequest        it decodes, but asks for something that cannot be done
│   ├── MediaRefused          its image, video or sound is missing, changed, too large or not readable
│   ├── FeaturesRefused       the features that its task needs are not there, and the task says so is no answer
│   ├── ImpossibleEvent       it says what cannot be: a time to come, a price below zero, a kind that there is not
│   ├── RepeatedEvent         the same event came before, within the window
│   ├── RecordTooLarge        it, its headers or its result pass a limit
│   ├── RetriesExhausted      what it needs did not come back within its retries; that says nothing against it or us
│   ├── Unwritable            a topic does not take what would be written of it: too large, or of a form that is refused
│   └── PoisonRecord          the task failed on it, alone, again and again, or died of it
├── RetryLater             the record is tried again after a delay: what failed may come back
│   └── DependencyUnavailable the same for its whole batch: what all of them need does not answer
├── TransactionAborted     the transaction did not happen: the loop goes back to the committed offsets
├── Fenced                 the broker takes nothing more of this producer: it is rebuilt once; fenced again, the process stops
│   └── MemberFenced          another process has this static member's name: it stops
└── Stop                   the process stops, and says why
    ├── BadSettings           a setting has a value that cannot be used
    ├── BrokerUnavailable     no broker or registry answered within the limit
    ├── SchemaRefused         a schema would break those who read or write the topic
    ├── ModelRefused          a model folder is incomplete, changed or of a kind that is not loaded
    ├── StandsStill           a partition has records to read, and its committed offset does not move
    └── DeadLetterUnwritable  a record could be neither processed nor set aside
"""

from __future__ import annotations


class MillraceError(Exception):
    """Root of the tree. `code` is stable and short: it travels in headers, results and metrics."""

    code = "error"


class RecordError(MillraceError):
    code = "invalid"


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


class DependencyUnavailable(RetryLater):
    code = "unavailable"


class TransactionAborted(MillraceError):
    """`indefinite` is true where it is unknown whether the broker committed: the producer must be rebuilt. `unwritable` is the topic
    that refused a record for what it is (its size, its form): the same record is refused again, however often it is tried."""

    code = "aborted"

    def __init__(self, message: str, *, indefinite: bool = False, unwritable: str = "") -> None:
        super().__init__(message)
        self.indefinite = indefinite
        self.unwritable = unwritable


class Fenced(MillraceError):
    """librdkafka says it both where another process has the transactional id and where the broker ended a transaction at its time-out."""

    code = "fenced"


class MemberFenced(Fenced):
    code = "fenced"


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
