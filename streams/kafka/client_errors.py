"""Translates errors of the Kafka client to ours, by their meaning for a transaction, a record or the process."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from schemas.errors import BrokerUnavailable, Fenced, MillraceError, TransactionAborted

_FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.FENCED_INSTANCE_ID,
}
_NOT_A_MEMBER = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError.STALE_MEMBER_EPOCH,
}
_RECORD_REFUSED = {  # because of its size or form, so the same record is refused each time
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
}
_INDEFINITE = {
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._STATE,
    KafkaError._CONFLICT,
    KafkaError._PURGE_QUEUE,
    KafkaError._PURGE_INFLIGHT,
}

TRANSIENT = {  # errors of a call for offsets that may succeed when it is tried again
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
}
HARMLESS = {  # errors among polled messages from which the client recovers by itself
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._PARTITION_EOF,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
}


def kafka_error(raised: KafkaException) -> KafkaError:
    error = raised.args[0]
    assert isinstance(error, KafkaError)
    return error


def is_of_the_record(error: KafkaError) -> bool:
    """Whether a record was refused because of its size or form."""
    return error.code() in _RECORD_REFUSED


def of_transaction(raised: KafkaException, doing: str) -> MillraceError:
    """The meaning of a failed transaction call. An error that is not known to be definite is indefinite, so the producer is
    replaced (the advice of Jepsen's Bufstream report, which holds for every Kafka client)."""
    error = kafka_error(raised)
    words = f"{doing}: {error.name()}: {error.str()}"
    if error.code() in _FENCED:
        return Fenced(
            f"{words}. Another process runs with the same transactional.id, or a transaction was open past its time-out"
        )
    if error.code() in _NOT_A_MEMBER:
        return TransactionAborted(f"{words}. The group has moved on; the records go to their present owner")
    if error.fatal():
        return TransactionAborted(words, indefinite=True)
    if error.txn_requires_abort() and error.code() not in _INDEFINITE:
        return TransactionAborted(words)
    return TransactionAborted(words, indefinite=True)


def of_commit(raised: KafkaException) -> MillraceError:
    """The meaning of a failed commit of offsets: unless the group refused the commit, it may still take effect later."""
    error = kafka_error(raised)
    return TransactionAborted(f"commit of offsets: {error.name()}: {error.str()}", indefinite=error.code() not in _NOT_A_MEMBER)


def of_read(raised: KafkaException, doing: str) -> BrokerUnavailable:
    error = kafka_error(raised)
    return BrokerUnavailable(f"{doing}: {error.name()}: {error.str()}")
