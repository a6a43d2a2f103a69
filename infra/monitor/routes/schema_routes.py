"""Subjects of the schema registry, and the versions of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter

from infra.monitor.routes.shared_parts import Payload, Shown, TheMonitor, TopicName
from schemas.errors import InvalidRequest

router = APIRouter(default_response_class=Shown)


@dataclass(frozen=True)
class Subject:
    """versions: how many there are."""

    subject: str
    versions: int


@dataclass(frozen=True)
class Subjects:
    subjects: list[Subject]


@dataclass(frozen=True)
class SchemaVersion:
    """id: the registry's, which stands in front of each record."""

    version: int
    id: int
    schema: Any


@dataclass(frozen=True)
class SchemaVersions:
    """compatibility: which readers and writers a new version must not break; empty where the subject has no level of its own. versions:
    oldest first."""

    subject: str
    compatibility: str
    versions: list[SchemaVersion]


@router.get("/api/schemas")
def subjects(monitor: TheMonitor) -> Subjects:
    """By name."""
    return Subjects([Subject(name, len(monitor.ids.version_numbers(name))) for name in sorted(monitor.ids.subjects())])


@router.get("/api/schemas/{subject}", response_class=Payload)
def schema_versions(monitor: TheMonitor, subject: TopicName) -> SchemaVersions:
    """Every version of a subject."""
    found = [SchemaVersion(version, schema_id, schema) for version, schema_id, schema in monitor.ids.versions(subject)]
    if not found:
        raise InvalidRequest(f"the registry has no subject {subject}")
    return SchemaVersions(subject, monitor.ids.compatibility(subject), found)
