"""Claim checks and model folders in an S3 bucket: a real S3 interface on loopback (moto's server), reached through fsspec."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from inference_workers.models import bucket_reader
from inference_workers.models.addresses import open_source
from inference_workers.models.one_at_a_time import alone
from infra.local.processes import free_port
from schemas.errors import MediaRefused, ModelRefused, RetryLater
from streams import buckets
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


def test_a_silent_store_is_asked_twice_and_given_up(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setattr(buckets, "READ_LIMIT_S", 0.2)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    asked: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept() -> None:
            with suppress(OSError):  # the socket is closed below
                while True:
                    asked.append(silent.accept()[0])

        Thread(target=accept, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(RetryLater, match="does not answer"):
            ClaimChecks([bucket]).fetch(Reference(f"{bucket}/x", "0" * 64, 3), 100)
        assert len(asked) == buckets.TRIES
    for connection in asked:
        connection.close()


def put(folder: Path, prefix: str) -> None:
    import fsspec

    for file in folder.iterdir():
        fsspec.filesystem("s3").pipe_file(f"{prefix}/{file.name}", file.read_bytes())


def test_a_model_folder_is_copied_once_and_opened_without_the_store_by_its_digest(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    shipped = open_source("shipped:vision-digits")
    put(shipped.path, "media/models/digits")
    put(shipped.path, "media/models/digits-2")
    put(open_source("shipped:moderation-image").path, "media/models/digits/deeper")
    uri = "s3://media/models/digits"
    found = open_source(uri)
    assert (found.digest, found.version, found.path) == (shipped.digest, "1", tmp_path / "models" / "s3" / shipped.digest)
    copied = (found.path / "model.onnx").stat().st_mtime_ns
    assert open_source(f"{uri}/") == open_source(uri, shipped.digest) == found
    assert (found.path / "model.onnx").stat().st_mtime_ns == copied
    assert open_source(f"{uri}/model.onnx").config["network"] == "onnx-table"
    with pytest.raises(ModelRefused, match="was announced"):
        open_source(uri, "0" * 64)
    with pytest.raises(ModelRefused, match="holds no objects"):
        open_source("s3://media/models/dig")
    with pytest.raises(ModelRefused, match="cannot be read"):
        open_source("s3://no-such-bucket/models/digits")
    put_changed(uri)
    with pytest.raises(ModelRefused, match="changed or cut"):
        open_source(uri)
    stop(monkeypatch)
    assert open_source(uri, shipped.digest) == found
    with pytest.raises(RetryLater, match="does not answer"):
        open_source(uri)
    assert not list((tmp_path / "models" / "s3").glob(".part-*"))


def test_one_process_copies_and_what_a_killed_one_left_is_removed(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    shipped = open_source("shipped:vision-digits")
    put(shipped.path, "media/models/digits")
    copies = tmp_path / "models" / "s3"
    (copies / ".part-killed" / "copy").mkdir(parents=True)
    monkeypatch.setattr(bucket_reader, "WAIT_LIMIT_S", 0.0)
    with alone(copies), pytest.raises(RetryLater, match="by another process"):
        open_source("s3://media/models/digits")
    assert open_source("s3://media/models/digits").digest == shipped.digest
    assert not list(copies.glob(".part-*"))
    (seen,) = copies.glob("*.txt")
    seen.write_text("")  # cut by a crash of the machine
    assert open_source("s3://media/models/digits").digest == shipped.digest == seen.read_text()


def test_a_prefix_of_many_objects_is_refused_after_one_page(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    monkeypatch.setattr(bucket_reader, "MAX_OBJECTS", 3)
    put(open_source("shipped:vision-digits").path, "media/models/digits")
    with pytest.raises(ModelRefused, match="holds more than 3 objects"):
        open_source("s3://media/models/digits")
    assert open_source("s3://media/models/digits/model.onnx").config["network"] == "onnx-table"


def put_changed(uri: str) -> None:
    import fsspec

    fsspec.filesystem("s3").pipe_file(f"{uri}/config.json", b"{}")


def stop(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
