"""What requests bring is hostile: every file is an answer with a reason or pixels, in bounded memory, and the next one works."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil
import pytest

from inference_workers.media.decoding_child import DecodingChild, Job
from inference_workers.media.formats import Caps, Sound, Views
from inference_workers.media.reader import MediaReader
from inference_workers.networks.pictures import Fit
from schemas.errors import BadSettings, MediaRefused, RetryLater
from streams.claim_checks import INLINE_BYTES, ClaimChecks, Reference, split_media
from tests.support import media
from tests.support.media import inline

SMALL = Fit("RGB", 32, 32)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaReader]:
    made = MediaReader(ClaimChecks([tmp_path_factory.mktemp("blobs").as_uri()]))
    yield made
    made.close()


def pictures(reader: MediaReader, given: list[dict[str, Any]], to: Fit) -> list[Any]:
    """Of each file its first look, or why there is none."""
    return [one if isinstance(one, MediaRefused) else one.views[0][1] for one in reader.pictures(given, to)]


GOOD = media.digit_seven()
CHANGED = bytearray(media.noise())
CHANGED[len(CHANGED) // 2 :] = Random(1).randbytes(len(CHANGED) - len(CHANGED) // 2)
BAD_PICTURES = [
    (media.png_header(60_000, 60_000), "60000 × 60000 pixels"),
    (media.png_header(6_000, 6_000, bytes(1000)), "truncated"),
    (media.noise()[:4000], "truncated"),
    (b"", "empty"),
    (b"GIF89a", "gif"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an unknown format"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "an unknown format"),
    (media.sound(), "wav is not supported for an image"),
    (b"\x89PNG\r\n\x1a\n" + Random(2).randbytes(500), "png"),
]


@pytest.mark.parametrize(("data", "why"), BAD_PICTURES, ids=lambda value: str(value)[:24])
def test_a_bad_picture_is_refused_with_the_reason_and_its_neighbours_are_read(reader: MediaReader, data: bytes, why: str) -> None:
    first, refused, last = pictures(reader, [inline(GOOD), inline(data), inline(GOOD)], SMALL)
    assert isinstance(refused, MediaRefused)
    assert why in str(refused)
    np.testing.assert_array_equal(first, last)


def test_bytes_that_were_changed_are_pixels_or_a_reason_but_never_an_error(reader: MediaReader) -> None:
    (found,) = pictures(reader, [inline(bytes(CHANGED))], SMALL)
    assert isinstance(found, (MediaRefused, np.ndarray))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_every_format_is_told_by_its_bytes(reader: MediaReader, kind: str) -> None:
    (pixels,) = pictures(reader, [inline(media.noise(64, kind))], SMALL)
    assert not isinstance(pixels, MediaRefused)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8


def test_a_picture_is_fitted_whole_and_transparency_is_white(reader: MediaReader) -> None:
    from PIL import Image

    wide = media.encoded(Image.new("RGB", (100, 20), "red"))
    clear = media.encoded(Image.new("RGBA", (10, 10), (0, 0, 0, 0)))
    pixels, white = pictures(reader, [inline(wide), inline(clear)], SMALL)
    assert not isinstance(pixels, MediaRefused) and not isinstance(white, MediaRefused)
    assert (pixels[:, :, 0] == 255).all()  # the bars take the colour of its edge
    assert (white == 255).all()


def test_frames_are_spread_over_the_video_with_their_times(reader: MediaReader) -> None:
    (found,) = reader.frames([inline(media.video(4.0))], SMALL)
    assert isinstance(found, Views) and found.unseen is None
    assert [where for where, _ in found.views] == ["at 0.5 s", "at 1.5 s", "at 2.5 s", "at 3.5 s"]
    assert [pixels.mean() > 120 for _, pixels in found.views] == [False, False, True, True]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (media.video(2.0, last_at_s=36_000.0), "36000 s long"),
        (media.video()[:1200], "cannot be read"),
        (media.noise(), "jpeg is not supported for a video"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "an unknown format"),
    ],
    ids=["ten hours", "truncated", "picture", "playlist"],
)
def test_a_bad_video_is_refused_with_the_reason(reader: MediaReader, data: bytes, why: str) -> None:
    refused, frames = reader.frames([inline(data), inline(media.video())], SMALL)
    assert isinstance(refused, MediaRefused) and why in str(refused)
    assert isinstance(frames, Views)


def test_sounds_come_at_the_rate_that_is_wanted(reader: MediaReader) -> None:
    for kind in ("WAV", "FLAC", "OGG"):
        (heard,) = reader.sounds([inline(media.sound(1.0, 16_000, kind))], 8000)
        assert isinstance(heard, Sound) and heard.notes == []
        samples = heard.samples
        assert abs(len(samples) - 8000) < 50
        spectrum = np.abs(np.fft.rfft(samples[:8000]))
        assert abs(int(spectrum.argmax()) * 8000 / min(8000, len(samples)) - 440) < 2


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (media.sound_of(np.zeros(0, np.float32)), "no samples"),
        (media.sound_of(np.zeros(8000 * 121, np.int16), kind="FLAC"), "121 s long"),
        (media.sound(1.0, 8000, "FLAC")[:200], "cannot be read"),
        (b"RIFF\x00\x00\x00\x00WAVE", "cannot be read"),
        (b"ID3\x03\x00", "an unknown format"),
    ],
    ids=["no samples", "too long", "truncated", "header only", "mp3"],
)
def test_a_bad_sound_is_refused_with_the_reason(reader: MediaReader, data: bytes, why: str) -> None:
    (refused,) = reader.sounds([inline(data)], 8000)
    assert isinstance(refused, MediaRefused) and why in str(refused)


def test_memory_stays_flat_over_hostile_files(reader: MediaReader) -> None:
    pictures(reader, [inline(GOOD)], SMALL)
    child = reader._child._child
    assert child is not None
    before = psutil.Process(child.pid).memory_info().rss
    for _ in range(20):
        pictures(reader, [inline(data) for data, _ in BAD_PICTURES], SMALL)
    assert psutil.Process(child.pid).memory_info().rss - before < 60 * 1024 * 1024


def test_a_file_that_needs_more_memory_than_the_decoder_has_is_refused_and_the_next_is_read() -> None:
    child = DecodingChild(Caps(pixels=10**9), memory_bytes=64 * 1024 * 1024)
    try:
        bomb = media.png_header(12_000, 12_000, bytes(3 * 12_000 * 12_000 + 12_000))
        assert len(bomb) < 500_000  # 432 MB when decoded
        refused, pixels = child.decode([Job("picture", bomb, SMALL), Job("picture", GOOD, SMALL)])
        assert isinstance(refused, MediaRefused)
        assert pixels.views[0][1].shape == (32, 32, 3)
    finally:
        child.close()


def test_a_decoder_that_dies_or_hangs_costs_the_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    child = DecodingChild(Caps(), limit_s=0.5)
    try:
        assert child.decode([Job("picture", GOOD, SMALL)])[0].views[0][1].shape == (32, 32, 3)
        assert child._child is not None
        os.kill(child._child.pid, 19)  # it stands still
        (slow,) = child.decode([Job("picture", GOOD, SMALL)])
        assert "took longer than" in str(slow)
        assert child.decode([Job("picture", GOOD, SMALL)])[0].views[0][1].shape == (32, 32, 3)
        os.kill(child._child.pid, 9)
        child._child.wait(5)
        (found,) = child.decode([Job("picture", GOOD, SMALL)])
        assert isinstance(found, MediaRefused) or found.views[0][1].shape == (32, 32, 3)
    finally:
        child.close()


# --- claim checks -------------------------------------------------------------------------------------------------


def stored(root: Path, data: bytes) -> Reference:
    return ClaimChecks([root.as_uri()]).put(data)


def test_what_is_put_is_fetched_and_the_same_content_is_one_object(tmp_path: Path) -> None:
    blobs = ClaimChecks([tmp_path.as_uri()])
    one, again = blobs.put(b"content"), blobs.put(b"content")
    assert one == again
    assert blobs.fetch(one, 100) == b"content"
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 1


def test_what_is_missing_changed_or_too_large_is_refused_with_the_reason(tmp_path: Path) -> None:
    blobs = ClaimChecks([tmp_path.as_uri()])
    good = blobs.put(b"content")
    file = Path(good.uri.removeprefix("file://"))
    with pytest.raises(MediaRefused, match="at most 3 are read"):
        blobs.fetch(good, 3)
    with pytest.raises(MediaRefused, match="cannot be opened"):
        blobs.fetch(Reference(good.uri + "x", good.sha256, good.size), 100)
    with pytest.raises(MediaRefused, match="does not have the 6 bytes"):
        blobs.fetch(Reference(good.uri, good.sha256, 6), 100)
    file.write_bytes(b"CONTENT")
    with pytest.raises(MediaRefused, match="it was changed"):
        blobs.fetch(good, 100)
    assert hashlib.sha256(b"content").hexdigest() == good.sha256


def test_nothing_outside_the_roots_is_read(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (inside / "link").symlink_to(outside / "secret")
    (inside / "folder").symlink_to(outside)
    digest, blobs = hashlib.sha256(b"secret").hexdigest(), ClaimChecks([inside.as_uri()])
    for uri in (
        f"{outside.as_uri()}/secret",
        f"{inside.as_uri()}/../out/secret",
        f"{inside.as_uri()}/%2e%2e/out/secret",
        f"{inside.as_uri()}/link",
        f"{inside.as_uri()}/folder/secret",
        "http://127.0.0.1/secret",
        "/etc/passwd",
        "s3://bucket/secret",
        "file:///dev/zero",
    ):
        with pytest.raises(MediaRefused):
            blobs.fetch(Reference(uri, digest, 6), 100)
    with pytest.raises(BadSettings):
        ClaimChecks(["http://127.0.0.1/"])


def test_what_is_large_travels_by_reference(tmp_path: Path) -> None:
    blobs = ClaimChecks([tmp_path.as_uri()])
    assert split_media({"data": bytes(INLINE_BYTES)}, blobs) == {"data": bytes(INLINE_BYTES)}
    large = split_media({"data": bytes(INLINE_BYTES + 1)}, blobs)
    assert large["size"] == INLINE_BYTES + 1
    with pytest.raises(MediaRefused, match="no store is set"):
        split_media({"data": bytes(INLINE_BYTES + 1)}, None)


def test_a_reference_is_read_like_inline_bytes_and_a_bad_one_is_a_reason(tmp_path: Path) -> None:
    reader = MediaReader(ClaimChecks([tmp_path.as_uri()]))
    reference = stored(tmp_path, GOOD)
    by_reference: dict[str, Any] = {"data": None, "uri": reference.uri, "sha256": reference.sha256, "size": reference.size}
    try:
        bad = [{**by_reference, "sha256": "0" * 64}, {**by_reference, "sha256": None}, inline(bytes(INLINE_BYTES + 1))]
        same, direct, *refused = pictures(reader, [by_reference, inline(GOOD), *bad], SMALL)
        np.testing.assert_array_equal(same, direct)
        assert [str(one).split(";")[0] for one in refused if isinstance(one, MediaRefused)][1:] == [
            "the media field needs either data, or uri, sha256 and size",
            f"{INLINE_BYTES + 1} bytes are inline",
        ]
    finally:
        reader.close()


def test_the_cleaner_removes_what_no_record_can_refer_to_any_more(tmp_path: Path) -> None:
    from processors.moderation.cleaner import lifetime_s
    from schemas.topics import CONTENT

    assert lifetime_s() * 1000 > CONTENT.retention_ms
    blobs = ClaimChecks([tmp_path.as_uri()])
    old, new = blobs.put(b"old"), blobs.put(b"new")
    os.utime(old.uri.removeprefix("file://"), (0, 0))
    assert blobs.clean(lifetime_s(), 2 * lifetime_s()) == 1 or blobs.clean(lifetime_s(), lifetime_s() + 1) == 0
    with pytest.raises(MediaRefused):
        blobs.fetch(old, 100)
    assert Path(new.uri.removeprefix("file://")).exists() is True


@pytest.mark.parametrize(
    "tail",
    ["%00", "a%00b", "x" * 5_000, "", ".", "..", "folder", "%ED%A0%80", "a\nb", "?q", "#f", "//", "%2e%2e/x", "a/" * 2_000 + "b"],
)
def test_what_a_sender_names_is_the_senders_fault(tmp_path: Path, tail: str) -> None:
    (tmp_path / "folder").mkdir()
    blobs = ClaimChecks([tmp_path.as_uri()])
    for uri in (f"{tmp_path.as_uri()}/{tail}", tail, f"file://{tail}", f"file:{tail}", f"file://[{tail}", f"FILE:///{tail}"):
        with pytest.raises(MediaRefused):
            blobs.fetch(Reference(uri, "0" * 64, 10), 1_000)


@pytest.mark.parametrize(
    "uri", ["file://[", "file://[::1/x", "http://[", "//[", "\0", "", "s3://[", "s3://bucket/../x", "s3:", "file:", ":"]
)
def test_what_is_no_uri_is_refused(uri: str) -> None:
    with pytest.raises(MediaRefused):
        ClaimChecks(["s3://bucket/a", "file:///nowhere"]).fetch(Reference(uri, "0" * 64, 10), 1_000)


@pytest.mark.parametrize(
    ("number", "fate"),
    [(errno.EIO, RetryLater), (errno.ESTALE, RetryLater), (errno.EMFILE, RetryLater), (errno.ENOENT, MediaRefused)],
)
def test_a_store_that_is_away_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fate: type[Exception]
) -> None:
    blobs = ClaimChecks([tmp_path.as_uri()])
    reference = blobs.put(b"data")

    def broken(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(fate):
        blobs.fetch(reference, 1_000)
