"""Turns media fields of requests into pixels and samples: fetches those that are references, and decodes in the child process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from inference_workers.media.decoding_child import DecodingChild, Job
from inference_workers.media.formats import MAX_VIEWS, Caps, Sound, Views
from inference_workers.networks.pictures import Fit
from schemas.errors import MediaRefused, RetryLater
from streams.claim_checks import INLINE_BYTES, ClaimChecks, Reference

Media = Mapping[str, Any]  # the fields of the Media record
FETCH_AT_ONCE = 8


class MediaReader:
    """Reads all media of a micro-batch. A file that cannot be read gives a MediaRefused in its place. All methods that read raise
    RetryLater if a claim-check store does not answer or the decoder does not start: then the whole request is tried again."""

    def __init__(self, claim_checks: ClaimChecks, caps: Caps | None = None, child: DecodingChild | None = None) -> None:
        self.caps = caps or Caps()
        self._claim_checks = claim_checks
        self._child = child or DecodingChild(self.caps)
        self._pool: ThreadPoolExecutor | None = None

    def pictures(self, media: Sequence[Media], to: Fit, max_views: Sequence[int] | None = None) -> list[Views | MediaRefused]:
        """The views of each picture file, first the picture as it is. max_views: per file; MAX_VIEWS if None."""
        return self._decoded(media, "picture", to, self.caps.image_bytes, max_views)

    def frames(self, media: Sequence[Media], to: Fit) -> list[Views | MediaRefused]:
        """Sampled frames of each video."""
        return self._decoded(media, "video", to, self.caps.video_bytes)

    def sounds(self, media: Sequence[Media], rate_hz: int) -> list[Sound | MediaRefused]:
        """Samples of each sound, at `rate_hz`."""
        return self._decoded(media, "sound", rate_hz, self.caps.sound_bytes)

    def start(self) -> None:
        """Start the decoder without waiting for it, so that the first request does not wait either."""
        self._child.start()

    def close(self) -> None:
        self._child.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _decoded(
        self, media: Sequence[Media], kind: str, to: Fit | int, max_bytes: int, max_views: Sequence[int] | None = None
    ) -> list[Any]:
        """A few at a time, so that a batch of many large files is never in memory at once."""
        results: list[Any] = []
        for at in range(0, len(media), FETCH_AT_ONCE):
            fetched = self._fetched(media[at : at + FETCH_AT_ONCE], max_bytes)
            bounds = max_views[at : at + FETCH_AT_ONCE] if max_views is not None else [MAX_VIEWS] * len(fetched)
            jobs = [Job(kind, data, to, n) for data, n in zip(fetched, bounds, strict=True) if isinstance(data, bytes)]
            decoded = iter(self._child.decode(jobs))
            results += [next(decoded) if isinstance(data, bytes) else data for data in fetched]
        return results

    def _fetched(self, media: Sequence[Media], max_bytes: int) -> list[bytes | MediaRefused]:
        fetch: Callable[[Media], bytes | MediaRefused] = lambda fields: self._bytes_of(fields, max_bytes)  # noqa: E731
        if sum(fields["data"] is None for fields in media) < 2:
            return [fetch(fields) for fields in media]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(FETCH_AT_ONCE, "fetch")
        return list(self._pool.map(fetch, media))

    def _bytes_of(self, media: Media, max_bytes: int) -> bytes | MediaRefused:
        data, uri = media["data"], media["uri"]
        try:
            if data is not None:
                if len(data) > INLINE_BYTES:
                    raise MediaRefused(
                        f"{len(data)} bytes are inline; at most {INLINE_BYTES} are allowed, larger files go by reference"
                    )
                return bytes(data)
            if not uri or not media["sha256"] or media["size"] is None:
                raise MediaRefused("the media field needs either data, or uri, sha256 and size")
            return self._claim_checks.fetch(Reference(uri, media["sha256"], media["size"]), max_bytes)
        except RetryLater:
            raise
        except MediaRefused as refused:
            return refused
