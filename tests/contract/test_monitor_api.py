"""The monitor's interface keeps the document that it gives of itself, whatever is asked (schemathesis, OpenAPI 3.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infra.local import run_state
from infra.settings import StackSettings
from streams.schema_registry import Registry
from tests.conftest import Servers
from tests.support.monitors import Site, monitor

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With passwords in the addresses that it is told, which no answer may hold."""
    known = StackSettings(
        home=str(tmp_path_factory.mktemp("monitor")),
        bootstrap=servers.bootstrap,
        registry=servers.registry,
        connect=f"http://me:{SECRET}@127.0.0.1:1",
    )
    run_state.write(
        known.run_folder, run_state.State(processes=[replace(servers.kafka_process, address=f"redis://:{SECRET}@127.0.0.1:1/0")])
    )
    with monitor(known, servers.address, Registry(servers.registry)) as (found, _):
        yield found


CHECKS = [schemathesis.checks.not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SECRET = "pl4nted-s3cret"
ENDLESS = "/api/live|/tail$"
SLOW = "accuracy|parity|versions$|/api/requests/|/api/features/"  # each is a process or a search of all topics


def _keeps_the_contract(site: Site, role: str, path_regex: str = "") -> int:
    """Every operation of the document with generated requests; the number of operations."""
    document = schemathesis.openapi.from_url(f"{site.base}/api/openapi.json").exclude(path_regex=ENDLESS)
    document = document.include(path_regex=path_regex) if path_regex else document
    headers = {"Authorization": f"Bearer {site.tokens[role]}"} if role else {}
    n = 0
    for found in document.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @settings(
            max_examples=3 if re.search(SLOW, operation.path) else 12,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def holds(case: Any) -> None:
            answer = case.call(headers=headers, timeout=180)
            assert SECRET not in answer.text, answer.text
            if answer.status_code == 503:  # said with its cause: nothing runs that could answer
                assert answer.json()["code"] in ("broker-unavailable", "retry", "too-many"), answer.text
                return
            case.validate_response(answer, checks=CHECKS)

        holds()
        n += 1
    return n


def test_whatever_is_asked_is_answered_as_the_document_says(site: Site) -> None:
    assert _keeps_the_contract(site, "") > 25


def test_no_answer_holds_a_password(site: Site) -> None:
    assert "redis://127.0.0.1:1/0" in json.dumps(site.get("/api/snapshot"))
    status, said = site.ask("/api/connectors")
    assert (status, said["code"]) == (503, "broker-unavailable")
    status, failed = site.ask("/api/connectors/x/restart", {}, "operator")
    assert status == 503
    for answer in (said, failed, site.get("/api/audit"), site.get("/api/snapshot")):
        assert SECRET not in json.dumps(answer)
        assert SECRET[:6] not in json.dumps(answer)


def test_with_a_token_too(site: Site) -> None:
    assert _keeps_the_contract(site, "operator", path_regex="redrive|topics/.*/records$|session") == 4
