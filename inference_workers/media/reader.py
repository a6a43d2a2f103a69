"""Media fields of requests to pixels and samples: fetched where they are references, decoded in the child."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from inference_workers.media.decoding_child import DecodingChild, Job
from inference_workers.media.formats import MOST_VIEWS, Caps, Looks, Sound
from inference_workers.networks.pictures import Fit
from schemas.errors import MediaRefused, RetryLater
from streams.claim_checks import INLINE_BYTES, ClaimChecks, Reference

Media = Mapping[str, Any]  # the fields of the Media record
FETCH_AT_ONCE = 8


class MediaReader:
    """Reads all media of a micro-batch. A file that cannot be read is a MediaRefused in its place; a store that does not
    answer raises RetryLater, which is the request's fate, not the file's."""

    def __init__(self, blobs: ClaimChecks, caps: Caps | None = None, child: DecodingChild | None = None) -> None:
        self.caps = caps or Caps()
        self._blobs = blobs
        self._child = child or DecodingChild(self.caps)
        self._pool: ThreadPoolExecutor | None = None

    def looks(self, media: Sequence[Media], to: Fit, most: Sequence[int] | None = None) -> list[Looks | MediaRefused]:
        """Of each picture file what is to be looked at, first the picture as it is. most: views of each, where that is bounded."""
        return self._decoded(media, "looks", to, self.caps.image_bytes, most)

    def frames(self, media: Sequence[Media], to: Fit) -> list[Looks | MediaRefused]:
        """Of each video its sampled frames."""
        return self._decoded(media, "frames", to, self.caps.video_bytes)

    def sounds(self, media: Sequence[Media], rate_hz: int) -> list[Sound | MediaRefused]:
        """At that rate."""
        return self._decoded(media, "sound", rate_hz, self.caps.sound_bytes)

    def start(self) -> None:
        """Begin to start the decoder now, so that the first request does not wait for it."""
        self._child.start()

    def close(self) -> None:
        self._child.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _decoded(
        self, media: Sequence[Media], what: str, to: Fit | int, max_bytes: int, most: Sequence[int] | None = None
    ) -> list[Any]:
        """A few at a time, so that a batch of many large files is never in memory at once."""
        found: list[Any] = []
        for at in range(0, len(media), FETCH_AT_ONCE):
            fetched = self._fetched(media[at : at + FETCH_AT_ONCE], max_bytes)
            views = most[at : at + FETCH_AT_ONCE] if most is not None else [MOST_VIEWS] * len(fetched)
            jobs = [Job(what, data, to, n) for data, n in zip(fetched, views, strict=True) if isinstance(data, bytes)]
            decoded = iter(self._child.decode(jobs))
            found += [next(decoded) if isinstance(data, bytes) else data for data in fetched]
        return found

    def _fetched(self, media: Sequence[Media], max_bytes: int) -> list[bytes | MediaRefused]:
        fetch: Callable[[Media], bytes | MediaRefused] = lambda one: self._bytes_of(one, max_bytes)  # noqa: E731
        if sum(one["data"] is None for one in media) < 2:
            return [fetch(one) for one in media]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(FETCH_AT_ONCE, "fetch")
        return list(self._pool.map(fetch, media))

    def _bytes_of(self, media: Media, max_bytes: int) -> bytes | MediaRefused:
        data, uri = media["data"], media["uri"]
        try:
            if data is not None:
                if len(data) > INLINE_BYTES:
                    raise MediaRefused(f"{len(data)} bytes came inline; more than {INLINE_BYTES} travel by reference")
                return bytes(data)
            if not uri or not media["sha256"] or media["size"] is None:
                raise MediaRefused("it has neither data nor uri, sha256 and size")
            return self._blobs.fetch(Reference(uri, media["sha256"], media["size"]), max_bytes)
        except RetryLater:
            raise
        except MediaRefused as refused:
            return refused
