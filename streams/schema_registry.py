"""Schema registry client: the part of Confluent's REST API that we use.

Schemas are cached by id, so an outage of the registry affects only schemas that were never read before.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Collection, Sequence
from threading import Lock
from typing import Any

from schemas.errors import BrokerUnavailable, RetryLater, SchemaRefused, UndecodableRecord
from streams import local_http
from streams.clock import Backoff, Clock, SystemClock

_JSON = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND = (404,)


class RegistryAnswer(Exception):
    """An HTTP status other than success, with the registry's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Registry:
    """Makes at most `tries` tries per call and waits at most `limit_s` per try. Raises BrokerUnavailable if the registry does not
    answer, and for a while after that (`Backoff`)."""

    def __init__(self, url: str, limit_s: float = 5.0, tries: int = 3, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self.url = url.rstrip("/")
        self._limit_s = limit_s
        self._tries = tries
        self._opener = local_http.opener()
        self._schemas: dict[int, dict[str, Any]] = {}
        self._unknown: dict[int, float] = {}
        self._under: dict[str, dict[int, int]] = {}  # schema id by subject and version
        self._lock = Lock()
        self._backoff = Backoff(self._clock)

    # --- schemas.codec.SchemaIds --------------------------------------------------------------------------------

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        """The schema of an id, which is fetched once and then kept. Raises UndecodableRecord if the registry has no such id,
        which is not queried again for 5 s, and RetryLater if the registry does not answer."""
        with self._lock:
            schema: dict[str, Any] | None = self._schemas.get(schema_id)
            asked_s = self._unknown.get(schema_id)
        if schema is not None:
            return schema
        if asked_s is not None and self._clock.monotonic_s() - asked_s < 5.0:  # many records with one invalid id cause one query
            raise UndecodableRecord(f"the registry knows no schema with id {schema_id}")
        try:
            answer = self._call("GET", f"/schemas/ids/{schema_id}")
        except RegistryAnswer as refused:
            if refused.status in _NOT_FOUND:
                with self._lock:
                    if len(self._unknown) > 10_000:
                        self._unknown.clear()
                    self._unknown[schema_id] = self._clock.monotonic_s()
                raise UndecodableRecord(f"the registry knows no schema with id {schema_id}") from refused
            raise RetryLater(f"the registry answers {refused.status}: {refused}") from refused
        except BrokerUnavailable as error:
            raise RetryLater(str(error)) from error
        schema = _parsed(answer)
        with self._lock:
            self._schemas[schema_id] = schema
        return schema

    def ids_under(self, subject: str, *, anew: bool) -> Collection[int]:
        with self._lock:
            known = dict(self._under.get(subject, {}))
        if not anew:
            return known.values()
        try:
            for number in self.version_numbers(subject):
                answer = None if number in known else self._known(f"/subjects/{subject}/versions/{number}")
                if answer is not None:
                    known[number] = int(answer["id"])
                    with self._lock:
                        self._schemas.setdefault(known[number], _parsed(answer))
        except BrokerUnavailable as error:
            raise RetryLater(str(error)) from error
        with self._lock:
            self._under.setdefault(subject, {}).update(known)
        return known.values()

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        try:
            answer = self._call("POST", f"/subjects/{subject}", {"schema": json.dumps(schema)})
        except RegistryAnswer as refused:
            raise SchemaRefused(
                f"the registry has not our schema of {subject} ({refused}): provision it with `./millrace topics --provision`"
            ) from refused
        schema_id, number = int(answer["id"]), int(answer.get("version", 0))
        with self._lock:
            self._schemas[schema_id] = schema
            self._under.setdefault(subject, {})[number] = schema_id
        return schema_id

    # --- provisioning -------------------------------------------------------------------------------------------

    def subjects(self) -> list[str]:
        found: list[str] = self._call("GET", "/subjects")
        return found

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """Raises SchemaRefused if the subject's compatibility level forbids the schema."""
        try:
            return int(self._call("POST", f"/subjects/{subject}/versions", {"schema": json.dumps(schema)})["id"])
        except RegistryAnswer as refused:
            raise SchemaRefused(f"{subject}: {refused}") from refused

    def latest(self, subject: str) -> dict[str, Any] | None:
        found = self.newest(subject)
        return None if found is None else found[2]

    def newest(self, subject: str) -> tuple[int, int, dict[str, Any]] | None:
        """(version, id, schema); None if there is no such subject. Raises BrokerUnavailable."""
        found = self._known(f"/subjects/{subject}/versions/latest")
        return None if found is None else _version(found)

    def version_numbers(self, subject: str) -> list[int]:
        """Version numbers, oldest first; empty if there is no such subject. Raises BrokerUnavailable."""
        found: list[int] | None = self._known(f"/subjects/{subject}/versions")
        return found or []

    def versions(self, subject: str) -> list[tuple[int, int, dict[str, Any]]]:
        """(version, id, schema) of each version, oldest first. Raises BrokerUnavailable."""
        found = [self._known(f"/subjects/{subject}/versions/{number}") for number in self.version_numbers(subject)]
        return [_version(one) for one in found if one is not None]

    def delete_subjects(self, subjects: Sequence[str]) -> None:
        """Delete all versions of each subject, for good; a subject that does not exist is passed over."""
        for subject in subjects:
            for permanent in ("", "?permanent=true"):
                try:
                    self._call("DELETE", f"/subjects/{subject}{permanent}")
                except RegistryAnswer as refused:
                    if refused.status not in _NOT_FOUND:
                        raise BrokerUnavailable(f"registry: {subject} cannot be deleted: {refused}") from refused

    def set_compatibility(self, subject: str, level: str) -> None:
        self._call("PUT", f"/config/{subject}", {"compatibility": level})

    def compatibility(self, subject: str) -> str:
        """The subject's own compatibility level; empty if it has none."""
        found = self._known(f"/config/{subject}")
        return "" if found is None else str(found["compatibilityLevel"])

    # --- HTTP ---------------------------------------------------------------------------------------------------

    def _known(self, path: str) -> Any:
        """The answer for a path; None if the registry has no such entry. Raises BrokerUnavailable for any other refusal."""
        try:
            return self._call("GET", path)
        except RegistryAnswer as refused:
            if refused.status in _NOT_FOUND:
                return None
            raise BrokerUnavailable(f"registry: {refused}") from refused

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": _JSON, "Accept": _JSON}, method=method)
        cause: Exception = TimeoutError()
        began_s = self._clock.monotonic_s()
        if words := self._backoff.cause():
            raise BrokerUnavailable(words)
        for attempt in range(self._tries):
            try:
                with self._opener.open(request, timeout=self._limit_s) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                message = _message(error)
                if error.code < 500:
                    raise RegistryAnswer(error.code, message) from error
                cause = RegistryAnswer(error.code, message)
            except (OSError, ValueError) as error:  # connection refused or reset, timeout, or a body that is not JSON
                cause = error
            if attempt + 1 < self._tries:
                self._clock.sleep(0.1 * 2**attempt)
        words = f"the schema registry at {self.url} does not answer: {cause}"
        self._backoff.begin(began_s, words)
        raise BrokerUnavailable(words) from cause


def _version(found: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    return int(found["version"]), int(found["id"]), _parsed(found)


def _parsed(answer: dict[str, Any]) -> Any:
    """The schema of an answer. A schema of another kind than Avro, or one nested too deeply for JSON, is returned as text, by
    which no record is decoded."""
    try:
        return json.loads(answer["schema"])
    except (ValueError, RecursionError):
        return str(answer["schema"])


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error).get("message", error.reason))
    except (ValueError, AttributeError, OSError):
        return str(error.reason)


class MemoryRegistry:
    """A registry in memory, for tests and runs without a server. As in a real one, equal schemas have one id under all
    subjects."""

    def __init__(self) -> None:
        self._schemas: list[dict[str, Any]] = []
        self._subjects: dict[str, list[int]] = {}

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        if schema not in self._schemas:
            self._schemas.append(schema)
        schema_id = self._schemas.index(schema) + 1
        versions = self._subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        if not 0 < schema_id <= len(self._schemas):
            raise UndecodableRecord(f"the registry knows no schema with id {schema_id}")
        return self._schemas[schema_id - 1]

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        if schema not in self._schemas or self._schemas.index(schema) + 1 not in self._subjects.get(subject, ()):
            raise SchemaRefused(f"the registry does not have our schema for {subject}")
        return self._schemas.index(schema) + 1

    def ids_under(self, subject: str, *, anew: bool) -> Collection[int]:
        return list(self._subjects.get(subject, ()))
