"""What is judged is what is there: what people see of a file is looked at, and what nobody looked at is told."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from inference_workers.media import videos
from inference_workers.media.formats import MAX_VIEWS, Caps, Views
from inference_workers.media.reader import MediaReader
from inference_workers.media.sampling import sampled
from inference_workers.media.sounds import sound
from inference_workers.media.stills import views
from inference_workers.media.videos import frames
from inference_workers.models.addresses import open_source
from inference_workers.networks.pictures import Fit, fit
from inference_workers.task import Version
from inference_workers.tasks import moderation
from schemas.errors import MediaRefused
from streams.claim_checks import ClaimChecks
from tests.contract.test_tasks import columns_of
from tests.support import media

SMALL = Fit("RGB", 24, 32)
CAPS = Caps()


def levels(found: Views) -> list[int]:
    """The mean level of each view, to the nearest ten."""
    return [round(float(pixels.mean()), -1) for _, pixels in found.views]  # type: ignore[misc]


# --- videos ---------------------------------------------------------------------------------------------------------

MOVING = [(i / 4, media.grey(30 if i < 20 else 220)) for i in range(40)]


@pytest.mark.parametrize(("kind", "codec"), [("matroska", "mpeg4"), ("webm", "libvpx")])
@pytest.mark.parametrize("seekable", [True, False], ids=["with duration", "without"])
def test_a_video_is_looked_at_to_its_end_whether_it_says_its_length_or_not(kind: str, codec: str, seekable: bool) -> None:
    found = frames(media.pictures_video(MOVING, kind, codec, seekable), SMALL, CAPS)
    assert levels(found) == [30] * 4 + [220] * 4
    assert found.views[0][0].startswith("at 0.") and found.views[-1][0].startswith("at 9.")
    assert found.unseen is None


@pytest.mark.parametrize("seekable", [True, False], ids=["with duration", "without"])
def test_the_longest_video_holds_without_a_length_that_is_said(seekable: bool) -> None:
    data = media.pictures_video([(float(i), media.grey(30)) for i in range(0, 700, 20)], seekable=seekable)
    with pytest.raises(MediaRefused, match="600 s"):
        frames(data, SMALL, CAPS)


def test_every_slide_of_a_few_is_seen() -> None:
    found = frames(media.pictures_video([(0.0, media.grey(220)), (10.0, media.grey(30)), (20.0, media.grey(120))]), SMALL, CAPS)
    assert levels(found) == [220, 30, 120]


def test_a_still_that_stands_long_is_seen_among_many_short_ones() -> None:
    shown = [(i / 25, media.grey(30)) for i in range(50)] + [(2.0, media.grey(220))]
    shown += [(11.5 + i / 25, media.grey(30)) for i in range(50)]
    found = frames(media.pictures_video(shown), SMALL, CAPS)
    assert 220 in levels(found) and "at 2.0 s" in dict(found.views)
    assert len(found.views) == 8


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.integers(1, 8))
def test_the_frame_that_stands_longest_is_always_among_those_that_are_looked_at(lasts_s: list[float], most: int) -> None:
    starts_s = [0.0, *np.cumsum(lasts_s[:-1]).tolist()]
    end_s = starts_s[-1] + lasts_s[-1]
    picked = sampled(starts_s, end_s, most)
    assert picked == sorted(set(picked)) and len(picked) == min(most, len(lasts_s))
    if max(lasts_s) > end_s / most:
        assert int(np.argmax(lasts_s)) in picked


CORNER = np.full((120, 160, 3), 30, np.uint8)
CORNER[:60, :80] = 220  # bright at the top left, as it is stored


@pytest.mark.parametrize(
    ("matrix", "where"),
    [
        ((1, 0, 0, 1), (0, 0)),
        ((0, 1, -1, 0), (0, 1)),  # a quarter turn clockwise: the top left becomes the top right
        ((-1, 0, 0, -1), (1, 1)),
        ((0, -1, 1, 0), (1, 0)),
        ((-1, 0, 0, 1), (0, 1)),  # a mirror image
    ],
)
def test_a_video_is_turned_as_its_matrix_says(matrix: tuple[int, int, int, int], where: tuple[int, int]) -> None:
    stored = media.pictures_video([(i / 10, CORNER) for i in range(20)], "mp4")
    found = frames(media.turned(stored, matrix), Fit("L"), CAPS)
    (_, pixels), *_ = found.views
    height, width = pixels.shape[:2]
    assert (width > height) == (matrix[0] != 0)
    quarters = {
        (row, column): pixels[row * height // 2 :, column * width // 2 :][: height // 2, : width // 2].mean()
        for row in (0, 1)
        for column in (0, 1)
    }
    assert max(quarters, key=lambda key: quarters[key]) == where


def test_what_was_not_looked_through_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = media.pictures_video(MOVING, key_every=1000)
    assert frames(data, SMALL, CAPS).unseen is None
    monkeypatch.setattr(videos, "MAX_DECODED_PER_VIEW", 2)
    cut = frames(data, SMALL, CAPS)
    assert levels(cut) == [30] * len(cut.views)
    assert cut.unseen is not None and "was read" in cut.unseen


# --- pictures -------------------------------------------------------------------------------------------------------


def grey_16(mode: str) -> Image.Image:
    ramp = np.tile(np.linspace(0, 65535, 64), (48, 1)).astype(np.uint16)
    if mode == "F":
        return Image.fromarray(ramp.astype(np.float32))
    if mode == "I":
        return Image.fromarray(ramp.astype(np.int32))
    return Image.frombytes(mode, (64, 48), ramp.astype(">u2" if mode == "I;16B" else "<u2").tobytes())


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
@pytest.mark.parametrize("to", [Fit("L"), Fit("RGB"), Fit("L", 48, 64)], ids=str)
def test_numbers_of_16_bits_are_scaled_and_not_cut_off(mode: str, to: Fit) -> None:
    eight = Image.fromarray(np.tile(np.linspace(0, 255, 64), (48, 1)).astype(np.uint8))
    np.testing.assert_allclose(fit(grey_16(mode), to).astype(int), fit(eight, to).astype(int), atol=2)


def test_a_16_bit_png_is_read_as_the_same_picture_of_8_bits() -> None:
    found = views(media.encoded(grey_16("I;16")), Fit("L"), CAPS)
    assert 120 < found.views[0][1].mean() < 135


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_ink_on_a_clear_ground_is_looked_at_on_white_and_on_black(kind: str) -> None:
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[10:30, 10:50] = 255  # white ink
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = views(out.getvalue(), Fit("L"), CAPS)
    assert [where for where, _ in found.views] == ["", "on black"]
    assert [pixels.std() > 50 for _, pixels in found.views] == [False, True]


def test_a_picture_that_covers_its_ground_has_one_look() -> None:
    full = Image.new("RGBA", (20, 20), (200, 10, 10, 255))
    assert [where for where, _ in views(media.encoded(full), SMALL, CAPS).views] == [""]


def animation(kind: str, levels: list[int], lasts_ms: list[int]) -> bytes:
    first, *rest = [Image.new("L", (32, 24), level).convert("RGB") for level in levels]
    out = io.BytesIO()
    more: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": lasts_ms}
    first.save(out, kind, **more, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_frames_that_stand_long_are_looked_at(kind: str) -> None:
    shades = [30 + 2 * i for i in range(40)]
    shades[25] = 220
    found = views(animation(kind, shades, [20] * 25 + [5000] + [20] * 14), SMALL, CAPS)
    assert found.unseen is None
    assert 220 in levels(found) and "frame 26" in dict(found.views)
    assert len(found.views) <= 1 + CAPS.frames


def test_frames_of_an_animation_that_are_too_many_are_told() -> None:
    found = views(animation("GIF", list(range(0, 200, 5)), [20] * 40), SMALL, Caps(pixels=32 * 24 * 2))
    assert found.unseen == "only the first 16 of its 40 frames were read"


@pytest.mark.parametrize("spoilt", [False, True], ids=["large", "spoilt"])
def test_texts_and_profiles_are_no_reason_to_refuse_a_png(spoilt: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 3_000_000, zip=True)
    info.add_text("plain", "y" * 2_000_000)
    picture, out = Image.new("RGB", (20, 20), "red"), io.BytesIO()
    picture.save(out, "PNG", pnginfo=info, icc_profile=b"\0" * 2_500_000)
    data = bytearray(out.getvalue())
    if spoilt:
        data[data.index(b"tEXt") + 100] ^= 1  # its check sum is wrong now
    assert (views(bytes(data), SMALL, CAPS).views[0][1][:, :, 0] == 255).all()


def test_no_message_holds_an_address() -> None:
    for data in (
        b"\x89PNG\r\n\x1a\n" + bytes(500),
        b"GIF89a",
        b"BM" + bytes(40),
        b"\xff\xd8\xff" + bytes(90),
        b"RIFF\0\0\0\0WEBP",
    ):
        with pytest.raises(MediaRefused) as refused:
            views(data, SMALL, CAPS)
        assert "0x" not in str(refused.value) and str(refused.value).strip()


@pytest.mark.parametrize(("brand", "kind"), [(b"avif", "avif"), (b"heic", "heic")])
def test_a_picture_of_a_kind_that_is_not_read_is_named(brand: bytes, kind: str) -> None:
    with pytest.raises(MediaRefused, match=f"{kind} is not supported for an image"):
        views(b"\0\0\0\x20ftyp" + brand + bytes(40), SMALL, CAPS)


# --- sounds ---------------------------------------------------------------------------------------------------------

TONE = (0.3 * np.sin(np.arange(8000) * 440 * 2 * np.pi / 8000)).astype(np.float32)


@pytest.mark.parametrize(
    "channels",
    [
        [TONE, -TONE],
        [TONE, -0.5 * TONE],
        [TONE, np.concatenate([TONE[:4000], -TONE[4000:]])],  # in its second half only
        [TONE, -TONE, 0 * TONE, 0 * TONE],
    ],
    ids=["turned over", "in part", "for a time", "of four"],
)
def test_channels_that_cancel_each_other_are_not_mixed_and_it_is_told(channels: list[Any]) -> None:
    heard = sound(media.sound_of(np.stack(channels, axis=1)), 8000, CAPS)
    assert ["cancel" in note for note in heard.notes] == [True]
    np.testing.assert_allclose(np.abs(heard.samples), np.abs(TONE), atol=1e-3)


@pytest.mark.parametrize("channels", [[TONE, TONE], [TONE, 0 * TONE], [0 * TONE, 0 * TONE], [TONE] + [0 * TONE] * 7], ids=len)
def test_channels_that_do_not_cancel_are_mixed(channels: list[Any]) -> None:
    heard = sound(media.sound_of(np.stack(channels, axis=1)), 8000, CAPS)
    assert heard.notes == []
    np.testing.assert_allclose(heard.samples, np.mean(channels, axis=0), atol=1e-3)


def floats(samples: Any) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, 8000, format="WAV", subtype="FLOAT")
    return out.getvalue()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_silence_and_it_is_told(odd: float) -> None:
    samples = TONE.copy()
    samples[100:110] = odd
    heard = sound(floats(samples), 8000, CAPS)
    assert heard.notes == ["10 samples are NaN or infinite; they were replaced by silence"]
    assert np.isfinite(heard.samples).all() and np.abs(heard.samples).max() < 0.31


def test_samples_far_above_full_scale_are_brought_into_it() -> None:
    heard = sound(floats(TONE * 32767), 8000, CAPS)
    assert np.abs(heard.samples).max() == pytest.approx(1.0)
    assert "divided" in heard.notes[0]


# --- an item of many --------------------------------------------------------------------------------------------------


def test_an_item_has_a_bounded_number_of_looks_and_every_image_a_first_one() -> None:
    moving = media.inline(animation("GIF", list(range(0, 200, 20)), [20] * 10))
    values = [
        {"content_id": "c", "text": None, "author_id": None, "kind": None, "images": [moving] * n, "video": None} for n in (20, 1)
    ]
    folder = open_source("shipped:moderation-image")
    versions = {"moderation-image": Version(folder, moderation.TASK.load(folder, "moderation-image"))}
    reader = MediaReader(ClaimChecks(()))
    try:
        many, one = moderation.TASK.prepare(columns_of(moderation.TASK, values), versions, reader).inputs
    finally:
        reader.close()
    assert len(many.pictures) == 20 * 6 <= MAX_VIEWS
    assert {f"image {i}" for i in range(1, 21)} <= {part for part, _ in many.pictures}
    assert many.unseen["image 20"] == "2 further views of it were left out: the item has too many"
    assert (len(one.pictures), one.unseen) == (CAPS.frames, {})
