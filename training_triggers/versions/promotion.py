"""Promotion and rollback: one record on `model-updates-v1`, which is authoritative. MLflow follows it (`reconcile.py`)."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inference_workers.models.addresses import ModelAddress, Scheme, open_for
from inference_workers.models.folder import ModelFolder, open_folder
from inference_workers.models.unshipped import CHAT_MODEL, UNSHIPPED
from schemas.catalogue import declaration
from schemas.codec import SchemaIds
from schemas.errors import BadSettings, ModelRefused
from schemas.generated import Challenger, ModelUpdate
from schemas.topics import MODEL_UPDATES
from schemas.vocabulary import Arm, UpdateKind
from streams.broker import Broadcast
from streams.clock import Clock
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import records
from training_triggers.versions import update_history
from training_triggers.versions.compare_and_set import READ_LIMIT_S, Decide, Updates, followed


@dataclass(frozen=True)
class Source:
    """A version as it is announced: never by an alias, so that all workers load the same one."""

    folder: ModelFolder
    uri: str


def find_source(name: str, source: str, mlflow: str) -> Source:
    """source: the address of a model (`ModelAddress`), a folder's path, or a version number of the MLflow registry.

    The whole folder is checked. Raises ModelRefused."""
    if source.isdigit():
        address = ModelAddress(Scheme.MLFLOW, name, version=source)
    elif ":" in source:
        address = ModelAddress.parse(source)
    else:
        address = ModelAddress(Scheme.FILE, source)
    if address.scheme is Scheme.MLFLOW:
        found = _registered(name, address, mlflow)
    elif address.scheme is Scheme.FILE:
        path = Path(address.name).resolve()
        found = Source(open_for(name, f"file:{path}"), f"file:{path}")
    else:
        found = Source(open_for(name, source), str(address))
    return found


def _registered(name: str, address: ModelAddress, mlflow: str) -> Source:
    try:
        from training_triggers.versions.mlflow_registry import ModelRegistry  # seconds to import
    except ImportError as error:
        raise ModelRefused(f"{address} is in the MLflow registry: `./millrace setup mlflow` fetches its client") from error

    if address.name != name:
        raise ModelRefused(f"{address} is a version of {address.name}, not of {name}")
    versions = ModelRegistry(mlflow).versions(name)
    version = next((v for v in versions if v.number == address.version or (v.champion and address.alias == "champion")), None)
    if version is None:
        numbers = ", ".join(v.number for v in versions) or "none"
        raise ModelRefused(f"the registry has no version {address} of {name}; it has {numbers}")
    if version.uri.startswith(("file:", "/")):
        path = Path(version.uri.removeprefix("file://"))
        return Source(open_folder(path, version.digest), f"file:{path}")
    return Source(_as_registered(name, version.version, version.digest), f"models:/{name}/{version.number}")


def _as_registered(name: str, version: str, digest: str) -> ModelFolder:
    """A version whose files are on the server: each worker fetches and checks them."""
    return ModelFolder(Path(), name, version, digest, {}, {})


def announce(name: str, source: Source, reason: str, log: Updates, clock: Clock, actor: str | None = None) -> ModelUpdate:
    """Make a version the live one, and return when the broker has the update. Challengers that a person set beside the last
    version stay. actor: the account if none is named."""

    def decide(written: list[ModelUpdate]) -> ModelUpdate:
        return _turned(_before_promotion(name, written), source, reason, UpdateKind.PROMOTION, clock, actor)

    return _changed(log, decide)


def _before_promotion(name: str, written: Sequence[ModelUpdate]) -> ModelUpdate:
    """The state that a promotion changes. A model of which no version is shipped has none before its first promotion."""
    if name in UNSHIPPED and not update_history.of(name, written):
        return ModelUpdate(model=name, version="", uri="", digest="", reason="", actor="", decided_ms=0)
    return last_of(name, written)


def roll_back(name: str, reason: str, log: Updates, clock: Clock, actor: str | None = None) -> ModelUpdate:
    """Bring back the previous live version. The rollback stays in force: the version that it replaced does not come back by
    itself. Raises ModelRefused."""

    def decide(written: list[ModelUpdate]) -> ModelUpdate:
        return _turned(last_of(name, written), before(name, written), reason, UpdateKind.ROLLBACK, clock, actor)

    return _changed(log, decide)


def _turned(last: ModelUpdate, source: Source, reason: str, kind: str, clock: Clock, actor: str | None) -> ModelUpdate:
    folder = source.folder
    return replace(
        last,
        version=folder.version,
        uri=source.uri,
        digest=folder.digest,
        reason=reason,
        kind=kind,
        actor=actor or getpass.getuser(),
        decided_ms=clock.now_ms(),
        challengers=update_history.of_people(last, folder.digest),
    )


def _changed(log: Updates, decide: Decide) -> ModelUpdate:
    made = log.change(decide)
    assert made is not None
    return made


def challenge(
    name: str, source: Source | None, arm: str, share: float, reason: str, log: Updates, clock: Clock, actor: str | None = None
) -> ModelUpdate:
    """Put a version beside the live one: as canary it answers a share of the keys, as shadow it answers them for the log alone.
    source: None ends that arm. A person promotes or ends it. Raises BadSettings."""
    if arm not in (Arm.CANARY, Arm.SHADOW):
        raise BadSettings(f"invalid arm {arm!r}: use canary or shadow")
    if name == CHAT_MODEL:
        raise BadSettings(
            "chat has a live version only: promote a version, or start other workers with another MILLRACE_CHAT_MODEL"
        )
    if source is not None and not 0 < share <= 1:
        raise BadSettings(f"share must be greater than 0 and at most 1, not {share}")

    def decide(written: list[ModelUpdate]) -> ModelUpdate:
        last, now_ms = last_of(name, written), clock.now_ms()
        others = tuple(one for one in last.challengers if one.arm != arm)
        if source is None and len(others) == len(last.challengers):
            raise BadSettings(f"{name} has no {arm} to end")
        if source is not None and source.folder.digest == last.digest:
            raise BadSettings(f"{name} {last.version} is the one that answers: it cannot stand beside itself")
        new = (
            ()
            if source is None
            else (
                Challenger(
                    arm=arm,
                    version=source.folder.version,
                    uri=source.uri,
                    digest=source.folder.digest,
                    share=share,
                    salt=f"{arm}-{now_ms}",
                ),
            )
        )
        return replace(
            last,
            reason=reason,
            kind=UpdateKind.CHALLENGE,
            actor=actor or getpass.getuser(),
            decided_ms=now_ms,
            challengers=(*others, *new),
        )

    return _changed(log, decide)


def live(model: str, address: KafkaAddress, ids: SchemaIds) -> Source:
    """The live version, with its folder checked. Raises ModelRefused, BrokerUnavailable."""
    mine = [one for one in records(address, MODEL_UPDATES, ids) if one["model"] == model]
    return opened(ModelUpdate.from_dict(mine[-1])) if mine else shipped(model)


def updates(broadcast: Broadcast, ids: SchemaIds) -> list[ModelUpdate]:
    """All updates ever written, oldest first."""
    return followed(broadcast, ids).read_to_end(READ_LIMIT_S)


def last_of(name: str, written: Sequence[ModelUpdate]) -> ModelUpdate:
    """The state of a model: the shipped version if nothing was ever announced. Raises ModelRefused."""
    return next((one for one in reversed(written) if one.model == name), None) or as_shipped(name)


def before(name: str, written: Sequence[ModelUpdate]) -> Source:
    """The version that a rollback brings back: the promotion below the current one, finally the shipped version, and never a
    version that a rollback left.

    Raises ModelRefused if there is nothing below."""
    mine = update_history.of(name, written)
    if not mine:
        raise ModelRefused(f"no version of {name} was ever promoted: there is nothing to roll back")
    steps = update_history.ladder(mine)
    found = opened(steps[-2]) if len(steps) > 1 else shipped(name)
    if found.folder.digest == mine[-1].digest:
        raise ModelRefused(
            f"{name} {mine[-1].version} answers, and nothing that was promoted lies below it: promote a version instead"
        )
    return found


def shipped(name: str) -> Source:
    """The version with which a model starts: the shipped one, or the one in its task's declaration. Raises ModelRefused if it has
    none."""
    if name == CHAT_MODEL:
        raise ModelRefused(
            "no version of chat is shipped: promote one; workers start with MILLRACE_CHAT_MODEL, which is not on the topic"
        )
    if name in UNSHIPPED:
        raise ModelRefused(
            f"no version of {name} is shipped: promote another one, or start the workers with MILLRACE_MODELS={name}=off"
        )
    declared = declaration(name)
    source = declared.model if declared is not None else f"shipped:{name}"
    return Source(open_for(name, source), source)


def as_shipped(name: str) -> ModelUpdate:
    """The state of a model without any announcement."""
    source = shipped(name)
    return ModelUpdate(
        model=name,
        version=source.folder.version,
        uri=source.uri,
        digest=source.folder.digest,
        reason="shipped",
        actor="rollout",
        decided_ms=0,
    )


def opened(last: ModelUpdate) -> Source:
    """The version that an update names, checked if its files are on this machine."""
    if ModelAddress.parse(last.uri).scheme is Scheme.MLFLOW:
        return Source(_as_registered(last.model, last.version, last.digest), last.uri)
    return Source(open_for(last.model, last.uri, last.digest), last.uri)
