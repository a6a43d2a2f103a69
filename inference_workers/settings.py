"""Settings of a worker process, read once, at start. `./millrace config show` prints them with their origin."""

from __future__ import annotations

from dataclasses import dataclass

from inference_workers.media.decoding_child import DecodingChild
from inference_workers.media.formats import Caps
from inference_workers.media.reader import MediaReader
from schemas.errors import BadSettings
from streams.claim_checks import ClaimChecks
from streams.loop.batching import BatchLimits
from streams.loop.limits import Delivery, LoopLimits
from streams.process.group_settings import GroupSettings
from streams.process.settings import setting


@dataclass(frozen=True)
class WorkerSettings(GroupSettings):
    delivery: Delivery = setting(Delivery.EXACTLY_ONCE, "exactly-once or at-least-once")
    max_batch_requests: int = setting(64, "maximum number of requests in a batch", 1, 10_000, was="max_batch")
    max_batch_kib: int = setting(8_192, "maximum size of a batch's requests, KiB", 1, 1_048_576)
    max_wait_ms: float = setting(0.0, "how long a batch may wait for more requests, ms", 0, 60_000)
    commit_interval_ms: float = setting(100.0, "maximum time between two commits under load, ms", 0, 60_000)
    look_ahead_records: int = setting(
        4_000, "maximum number of records that are polled and not yet committed", 1, 1_000_000, was="look_ahead"
    )
    max_failures_in_a_row: int = setting(
        100, "after this many failed records in a row the worker pauses instead of writing more dead letters", 1, 1_000_000
    )
    redis: str = setting("redis://127.0.0.1:6379/0", "address of the online store, for tasks that need features")
    models: str = setting(
        "",
        "model versions to start with instead of the task's own: NAME=URI, or NAME=off for an optional model, separated by commas",
    )

    def batches(self, most_requests: int = 10_000, most_bytes: int = 2**30) -> BatchLimits:
        """most_requests, most_bytes: of a batch of a task that takes no larger ones, whatever the settings say."""
        size = min(self.max_batch_kib * 1024, most_bytes)
        return BatchLimits(min(self.max_batch_requests, most_requests), size, self.max_wait_ms)

    def limits(self, delivery: Delivery) -> LoopLimits:
        return LoopLimits(
            delivery=delivery,
            commit_interval_ms=self.commit_interval_ms,
            look_ahead_records=self.look_ahead_records,
            max_failures_in_a_row=self.max_failures_in_a_row,
        )

    def sources(self) -> dict[str, str]:
        """The address of each model that `models` names. Raises BadSettings."""
        addresses = {}
        for entry in self.models.replace(",", " ").split():
            name, equals, uri = entry.partition("=")
            if not equals or not uri:
                raise BadSettings(f"MILLRACE_MODELS has {entry!r}; it must be NAME=URI, for instance vision-digits=hf:ID")
            addresses[name] = uri
        return addresses


@dataclass(frozen=True)
class MediaSettings:
    """Media of requests: the stores from which they may be fetched, and the limits of decoding."""

    blob_roots: str = setting(
        "", "stores from which media may be fetched: file:///folder or s3://bucket/prefix, separated by spaces"
    )
    max_image_mib: int = setting(20, "maximum size of an image file, MiB", 1, 1_024, was="image_mib")
    max_video_mib: int = setting(64, "maximum size of a video file, MiB", 1, 4_096, was="video_mib")
    max_sound_mib: int = setting(32, "maximum size of a sound file, MiB", 1, 1_024, was="sound_mib")
    max_megapixels: int = setting(40, "maximum size of an image or frame, million pixels", 1, 1_000, was="megapixels")
    max_video_frames: int = setting(8, "maximum number of frames sampled from a video", 1, 1_000, was="frames")
    max_video_s: float = setting(600.0, "maximum length of a video, seconds", 0.1, 86_400, was="video_s")
    max_read_pictures: int = setting(8, "maximum number of pictures and frames of a content item whose text is read", 1, 64)
    max_sound_s: float = setting(120.0, "maximum length of a sound, seconds", 0.1, 86_400, was="sound_s")
    decoder_memory_mib: int = setting(768, "memory of the decoding process, MiB", 64, 65_536, was="decoder_mib")
    decode_limit_s: float = setting(20.0, "maximum time to decode a file, seconds", 0.1, 600)

    def reader(self) -> MediaReader:
        mib = 1024 * 1024
        caps = Caps(
            image_bytes=self.max_image_mib * mib,
            video_bytes=self.max_video_mib * mib,
            sound_bytes=self.max_sound_mib * mib,
            pixels=self.max_megapixels * 1_000_000,
            frames=self.max_video_frames,
            read=self.max_read_pictures,
            video_s=self.max_video_s,
            sound_s=self.max_sound_s,
        )
        child = DecodingChild(caps, self.decoder_memory_mib * mib, self.decode_limit_s)
        return MediaReader(ClaimChecks(self.blob_roots.split()), caps, child)
