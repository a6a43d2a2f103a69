"""Settings of a worker process, read once. `./millrace config show` prints them with their origin."""

from __future__ import annotations

from dataclasses import dataclass

from inference_workers.media.decoding_child import DecodingChild
from inference_workers.media.formats import Caps
from inference_workers.media.reader import MediaReader
from schemas.errors import BadSettings
from streams.claim_checks import ClaimChecks
from streams.loop.limits import Delivery
from streams.process.group_settings import GroupSettings
from streams.process.settings import setting


@dataclass(frozen=True)
class WorkerSettings(GroupSettings):
    delivery: Delivery = setting(Delivery.EXACTLY_ONCE, "exactly-once or at-least-once")
    max_batch: int = setting(64, "most requests in one micro-batch", 1, 10_000)
    max_batch_kib: int = setting(8_192, "most KiB of requests in one micro-batch", 1, 1_048_576)
    max_wait_ms: float = setting(0.0, "how long a batch may wait for company", 0, 60_000)
    commit_interval_ms: float = setting(100.0, "longest time between two commits under load", 0, 60_000)
    look_ahead: int = setting(4_000, "most records polled and not yet committed", 1, 1_000_000)
    max_failures_in_a_row: int = setting(
        100, "more failed records in a row than that are no fault of the records: the worker holds back", 1, 1_000_000
    )
    redis: str = setting("redis://127.0.0.1:6379/0", "address of the online store, for tasks that need features")
    models: str = setting("", "sources to start with, instead of the task's own: name=uri, separated by commas")

    def sources(self) -> dict[str, str]:
        """Of each model that is named, where it comes from. Raises BadSettings."""
        found = {}
        for one in self.models.replace(",", " ").split():
            name, equals, uri = one.partition("=")
            if not equals or not uri:
                raise BadSettings(f"MILLRACE_MODELS has {one!r}; it takes name=uri, for instance vision-digits=hf:ID")
            found[name] = uri
        return found


@dataclass(frozen=True)
class MediaSettings:
    """Of what requests bring: where it may lie, and what is decoded at most."""

    blob_roots: str = setting("", "roots of claim checks, file:///folder or s3://bucket/prefix, separated by spaces")
    image_mib: int = setting(20, "most MiB of an image", 1, 1_024)
    video_mib: int = setting(64, "most MiB of a video", 1, 4_096)
    sound_mib: int = setting(32, "most MiB of a sound", 1, 1_024)
    megapixels: int = setting(40, "most million pixels of an image or frame", 1, 1_000)
    frames: int = setting(8, "most frames sampled from a video", 1, 1_000)
    video_s: float = setting(600.0, "longest video, seconds", 0.1, 86_400)
    sound_s: float = setting(120.0, "longest sound, seconds", 0.1, 86_400)
    decoder_mib: int = setting(768, "memory that decoding may take, MiB", 64, 65_536)
    decode_limit_s: float = setting(20.0, "longest time to decode a file, seconds", 0.1, 600)

    def reader(self) -> MediaReader:
        mib = 1024 * 1024
        caps = Caps(
            image_bytes=self.image_mib * mib, video_bytes=self.video_mib * mib, sound_bytes=self.sound_mib * mib,
            pixels=self.megapixels * 1_000_000, frames=self.frames, video_s=self.video_s, sound_s=self.sound_s,
        )  # fmt: skip
        child = DecodingChild(caps, self.decoder_mib * mib, self.decode_limit_s)
        return MediaReader(ClaimChecks(self.blob_roots.split()), caps, child)
