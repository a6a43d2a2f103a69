"""Sound files to samples of one channel."""

from __future__ import annotations

import io

import numpy as np

from inference_workers.media.formats import Caps, Samples, Sound, of_kind, words_of
from schemas.errors import MediaRefused

CANCELS = 0.5  # a mean this much quieter than channels that have nothing to do with each other would give
LOUDEST = 1.5  # files of numbers above it are not in the scale of -1 to 1
STRETCH_S = 0.25


def sound(data: bytes, rate_hz: int, caps: Caps) -> Sound:
    """Mono, float32, at `rate_hz`. Raises MediaRefused."""
    import soundfile

    kind = of_kind(data, ("wav", "flac", "ogg"), "a sound")
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
        raise MediaRefused(f"the {kind} sound cannot be read: {words_of(error)}") from error
    if not len(read):
        raise MediaRefused("the sound has no samples")
    if len(read) > caps.sound_s * from_hz:
        raise MediaRefused(f"the sound is longer than the {caps.sound_s:.0f} s that are read")
    notes: list[str] = []
    mono = one_channel(in_scale(read, notes), from_hz, notes)
    return Sound(mono if from_hz == rate_hz else resampled(mono, from_hz, rate_hz), notes)


def in_scale(samples: Samples, notes: list[str]) -> Samples:
    """samples: (t, channels). What is no number is silence, what is far above full scale is brought into it, and both are noted."""
    good = np.isfinite(samples)
    if not good.all():
        notes.append(f"{good.size - int(good.sum())} samples are no finite numbers; they were taken as silence")
        samples = np.where(good, samples, np.float32(0))
    loudest = float(np.abs(samples).max())
    if loudest > LOUDEST:
        notes.append(f"samples reach {loudest:.3g}; they were divided by it")
        samples = samples / np.float32(loudest)
    return samples


def one_channel(samples: Samples, rate_hz: int, notes: list[str]) -> Samples:
    """The mean of the channels; the loudest of them where they cancel each other in any stretch, which is noted."""
    mean: Samples = samples.mean(axis=1, dtype=np.float32)
    n, channels = samples.shape
    if channels == 1:
        return mean
    step = max(1, int(STRETCH_S * rate_hz))
    edges = np.arange(0, n, step)
    power = np.add.reduceat(samples.astype(np.float64) ** 2, edges, axis=0)
    together = np.add.reduceat(mean.astype(np.float64) ** 2, edges)
    apart = power.sum(axis=1) / channels**2  # of a mean of channels that have nothing to do with each other
    loud = apart > 1e-4 * max(apart.max(), 1e-30)
    if not (loud & (together < CANCELS**2 * apart)).any():
        return mean
    loudest = int(power.sum(axis=0).argmax())
    notes.append(f"its channels cancel each other: channel {loudest + 1} of {channels}, the loudest, was heard alone")
    return np.ascontiguousarray(samples[:, loudest])


def resampled(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """By FFmpeg's resampler, which filters what the lower rate cannot hold."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
    frame = av.AudioFrame.from_ndarray(samples[None, :].astype(np.float32), format="flt", layout="mono")
    frame.sample_rate = from_hz
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(parts) if parts else samples[:0]
