"""Files to pixels and samples. Runs only in the decoding child (`child.py`): what comes in is hostile.

Each file is told by its first bytes, never by its name; only the formats below are opened; sizes are read from the header
and checked before anything is decoded.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.networks.pictures import Fit, Pixels, fit
from schemas.errors import MediaRefused

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Caps:
    """What is decoded at most. bytes: of one file. pixels: of a picture or frame. frames: sampled from one video."""

    image_bytes: int = 20 * 1024 * 1024
    video_bytes: int = 64 * 1024 * 1024
    sound_bytes: int = 32 * 1024 * 1024
    pixels: int = 40_000_000
    frames: int = 8
    video_s: float = 600.0
    sound_s: float = 120.0


def kind_of(data: bytes) -> str:
    """png, jpeg, gif, webp, bmp, mp4, matroska, avi, wav, flac, ogg. Raises MediaRefused for anything else."""
    for start, kind in (
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpeg"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"BM", "bmp"),
        (b"\x1a\x45\xdf\xa3", "matroska"),
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
    ):
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"AVI ", b"WAVE"):
        return {b"WEBP": "webp", b"AVI ": "avi", b"WAVE": "wav"}[data[8:12]]
    if data[4:8] == b"ftyp":
        return "mp4"
    raise MediaRefused("the file is empty" if not data else "the file is of no format that is read")


def _of(data: bytes, kinds: tuple[str, ...], what: str) -> str:
    found = kind_of(data)
    if found not in kinds:
        raise MediaRefused(f"{found} is not read as {what}: use {', '.join(kinds)}")
    return found


def picture(data: bytes, to: Fit, caps: Caps) -> Pixels:
    """The first frame, uint8 (height, width, channels). Raises MediaRefused."""
    from PIL import Image

    kind = _of(data, ("png", "jpeg", "gif", "webp", "bmp"), "an image")
    Image.MAX_IMAGE_PIXELS = None  # our own cap is stricter and says more
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = Image.open(io.BytesIO(data), formats=[kind.upper()])
            _check_size(*opened.size, caps)
            if kind == "jpeg" and to.height:
                opened.draft(to.mode, (2 * to.width, 2 * to.height))  # decodes at an eighth where that is enough
            opened.load()
            return fit(opened, to)
    except MediaRefused:
        raise
    except MemoryError as error:
        raise MediaRefused("the image needs more memory than the decoder has") from error
    except Exception as error:  # Pillow raises many kinds on bytes that are not what their header says
        raise MediaRefused(f"the {kind} image cannot be read: {error}") from error


def _check_size(width: int, height: int, caps: Caps) -> None:
    if width < 1 or height < 1:
        raise MediaRefused(f"the picture has {width} × {height} pixels")
    if width * height > caps.pixels:
        raise MediaRefused(f"the picture has {width} × {height} pixels; at most {caps.pixels:,} are decoded")


def frames(data: bytes, to: Fit, caps: Caps) -> list[tuple[float, Pixels]]:
    """Frames spread evenly over the video, each with its time in seconds. Raises MediaRefused."""
    import av

    kind = _of(data, ("mp4", "matroska", "avi"), "a video")
    try:
        # no protocol: a playlist or reference inside the file opens nothing
        with av.open(io.BytesIO(data), format=kind, options={"protocol_whitelist": ""}) as container:
            if not container.streams.video:
                raise MediaRefused("the file has no video stream")
            stream = container.streams.video[0]
            _check_size(stream.codec_context.width, stream.codec_context.height, caps)
            duration_s = _duration_s(container, stream)
            if duration_s > caps.video_s:
                raise MediaRefused(f"the video says it is {duration_s:.0f} s long; at most {caps.video_s:.0f} s are read")
            stream.thread_type = "NONE"
            return _sampled(container, stream, duration_s, to, caps)
    except MediaRefused:
        raise
    except MemoryError as error:
        raise MediaRefused("the video needs more memory than the decoder has") from error
    except Exception as error:  # FFmpeg's errors, by way of PyAV
        raise MediaRefused(f"the {kind} video cannot be read: {error}") from error


def _duration_s(container: Any, stream: Any) -> float:
    if container.duration:
        return float(container.duration) / 1e6
    return float(stream.duration * stream.time_base) if stream.duration else 0.0


def _sampled(container: Any, stream: Any, duration_s: float, to: Fit, caps: Caps) -> list[tuple[float, Pixels]]:
    """One frame a second, at most `caps.frames`, at the middle of equal stretches; never more than it must decode."""
    wanted = max(1, min(caps.frames, round(duration_s)))
    times = [(i + 0.5) * duration_s / wanted for i in range(wanted)]
    found: list[tuple[float, Pixels]] = []
    left = 300 * caps.frames  # decoded frames: a file whose key frames lie far apart is cut short, not walked through
    for at_s in times:
        if found and at_s <= found[-1][0]:
            continue
        if duration_s > 0:
            container.seek(int(at_s / stream.time_base), stream=stream, backward=True)
        last = None
        for frame in container.decode(stream):
            last, left = frame, left - 1
            if left <= 0 or frame.time is None or frame.time >= at_s - 1e-3:
                break
        if last is None:
            continue
        _check_size(last.width, last.height, caps)
        time_s = float(last.time or 0.0)
        if not found or time_s > found[-1][0]:
            found.append((time_s, fit(last.to_image(), to)))
        if left <= 0:
            break
    if not found:
        raise MediaRefused("the video has no frame that can be decoded")
    return found


def sound(data: bytes, rate_hz: int, caps: Caps) -> Samples:
    """Mono, float32, at `rate_hz`. Raises MediaRefused."""
    import soundfile

    kind = _of(data, ("wav", "flac", "ogg"), "a sound")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.samplerate < 1_000 or file.samplerate > 384_000 or file.channels > 16:
                raise MediaRefused(f"the sound has {file.samplerate} samples a second in {file.channels} channels")
            if file.frames / file.samplerate > caps.sound_s:
                raise MediaRefused(
                    f"the sound says it is {file.frames / file.samplerate:.0f} s long; at most {caps.sound_s:.0f} s are read"
                )
            # a header may say less than there is: never more than the cap is read
            read = file.read(int(caps.sound_s * file.samplerate) + 1, dtype="float32", always_2d=True)
            from_hz = file.samplerate
    except MediaRefused:
        raise
    except MemoryError as error:
        raise MediaRefused("the sound needs more memory than the decoder has") from error
    except Exception as error:  # libsndfile's errors
        raise MediaRefused(f"the {kind} sound cannot be read: {error}") from error
    if not len(read):
        raise MediaRefused("the sound has no samples")
    if len(read) > caps.sound_s * from_hz:
        raise MediaRefused(f"the sound is longer than the {caps.sound_s:.0f} s that are read")
    mono = np.nan_to_num(read.mean(axis=1))
    return mono if from_hz == rate_hz else resampled(mono, from_hz, rate_hz)


def resampled(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """By FFmpeg's resampler, which filters what the lower rate cannot hold."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
    frame = av.AudioFrame.from_ndarray(samples[None, :].astype(np.float32), format="flt", layout="mono")
    frame.sample_rate = from_hz
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(parts) if parts else samples[:0]
