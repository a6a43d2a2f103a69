"""Sound files to samples of one channel."""

from __future__ import annotations

import io

import numpy as np

from inference_workers.media.formats import Caps, Samples, Sound, of_kind, words_of
from schemas.errors import MediaRefused

CANCELLED = 0.5  # of the amplitude that the mean of independent channels would have
MAX_AMPLITUDE = 1.5  # louder files are not in the scale of -1 to 1
INTERVAL_S = 0.25


def sound(data: bytes, rate_hz: int, caps: Caps) -> Sound:
    """Mono, float32, at `rate_hz`. Raises MediaRefused."""
    import soundfile

    kind = of_kind(data, ("wav", "flac", "ogg"), "a sound")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.samplerate < 1_000 or file.samplerate > 384_000 or file.channels > 16:
                raise MediaRefused(f"the sound has {file.samplerate} samples per second in {file.channels} channels")
            if file.frames / file.samplerate > caps.sound_s:
                raise MediaRefused(
                    f"the sound is {file.frames / file.samplerate:.0f} s long by its header; at most {caps.sound_s:.0f} s are allowed"
                )
            # the header may claim less than the file has: never read more than the cap
            samples = file.read(int(caps.sound_s * file.samplerate) + 1, dtype="float32", always_2d=True)
            from_hz = file.samplerate
    except MediaRefused:
        raise
    except MemoryError as error:
        raise MediaRefused("the sound needs more memory than the decoder has") from error
    except Exception as error:  # libsndfile's errors
        raise MediaRefused(f"the {kind} sound cannot be read: {words_of(error)}") from error
    if not len(samples):
        raise MediaRefused("the sound has no samples")
    if len(samples) > caps.sound_s * from_hz:
        raise MediaRefused(f"the sound is longer than the {caps.sound_s:.0f} s that are allowed")
    notes: list[str] = []
    mono = one_channel(in_scale(samples, notes), from_hz, notes)
    return Sound(mono if from_hz == rate_hz else resampled(mono, from_hz, rate_hz), notes)


def in_scale(samples: Samples, notes: list[str]) -> Samples:
    """samples: float32 (t, channels). NaN and infinite samples become silence, and a sound far above full scale is scaled down; both are
    noted."""
    finite = np.isfinite(samples)
    if not finite.all():
        notes.append(f"{finite.size - int(finite.sum())} samples are NaN or infinite; they were replaced by silence")
        samples = np.where(finite, samples, np.float32(0))
    peak = float(np.abs(samples).max())
    if peak > MAX_AMPLITUDE:
        notes.append(f"samples reach {peak:.3g}; they were divided by it")
        samples = samples / np.float32(peak)
    return samples


def one_channel(samples: Samples, rate_hz: int, notes: list[str]) -> Samples:
    """Mono, float32 (t,), of samples (t, channels): the mean of the channels, or the loudest one if they cancel each other in any
    interval, which is noted."""
    mean: Samples = samples.mean(axis=1, dtype=np.float32)
    n, channels = samples.shape
    if channels == 1:
        return mean
    step = max(1, int(INTERVAL_S * rate_hz))
    edges = np.arange(0, n, step)
    power = np.add.reduceat(samples.astype(np.float64) ** 2, edges, axis=0)
    mean_power = np.add.reduceat(mean.astype(np.float64) ** 2, edges)
    independent_power = power.sum(axis=1) / channels**2  # that the mean would have if the channels were independent
    loud = independent_power > 1e-4 * max(independent_power.max(), 1e-30)
    if not (loud & (mean_power < CANCELLED**2 * independent_power)).any():
        return mean
    loudest = int(power.sum(axis=0).argmax())
    notes.append(f"its channels cancel each other: channel {loudest + 1} of {channels}, the loudest, was used alone")
    return np.ascontiguousarray(samples[:, loudest])


def resampled(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Mono samples, float32 (t,), at another rate, by FFmpeg's resampler, which filters out what the lower rate cannot hold."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
    frame = av.AudioFrame.from_ndarray(samples[None, :].astype(np.float32), format="flt", layout="mono")
    frame.sample_rate = from_hz
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(parts) if parts else samples[:0]
