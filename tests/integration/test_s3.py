"""Claim checks in an S3 bucket: a real S3 interface on loopback (moto's server), reached through fsspec."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.local.processes import free_port
from schemas.errors import MediaRefused, RetryLater
from streams.claim_checks import ClaimChecks, Reference

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "NO_PROXY": "127.0.0.1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()
    fsspec.filesystem("s3").makedirs("media", exist_ok=True)
    yield "s3://media/claims"
    server.stop()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_objects_are_put_fetched_refused_and_cleaned(bucket: str) -> None:
    blobs = ClaimChecks([bucket])
    one = blobs.put(b"content")
    assert one.uri.startswith("s3://media/claims/")
    assert blobs.fetch(one, 100) == b"content"
    with pytest.raises(MediaRefused, match="cannot be read"):
        blobs.fetch(Reference(one.uri + "0", one.sha256, one.size), 100)
    with pytest.raises(MediaRefused, match="it was changed"):
        blobs.fetch(Reference(one.uri, "0" * 64, one.size), 100)
    with pytest.raises(MediaRefused, match="6 bytes that were announced"):
        blobs.fetch(Reference(one.uri, one.sha256, 6), 100)
    for uri in ("s3://media/other/x", "s3://else/claims/x", "s3://media/claims/../other/x"):
        with pytest.raises(MediaRefused, match="does not lie under"):
            blobs.fetch(Reference(uri, one.sha256, one.size), 100)
    assert blobs.clean(3600.0, 0.0) == 0
    assert blobs.clean(3600.0, 4e9) == 1
    with pytest.raises(MediaRefused):
        blobs.fetch(one, 100)


def test_a_store_that_does_not_answer_is_asked_again_later(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(RetryLater, match="does not answer"):
        ClaimChecks([bucket]).fetch(Reference(f"{bucket}/x", "0" * 64, 3), 100)
