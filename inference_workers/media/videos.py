"""Video files to frames, by the times and the display matrix in the file."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference_workers.media.formats import Caps, Views, check_size, of_kind, words_of
from inference_workers.media.sampling import sampled
from inference_workers.networks.pictures import Fit, Pixels, fit
from schemas.errors import MediaRefused

MAX_PACKETS = 1_000_000
SAME_TIME_S = 1e-4
MAX_DECODED_PER_VIEW = 300  # frames: a file whose key frames lie far apart is cut short instead of decoded for minutes


@dataclass(frozen=True)
class Timeline:
    """Times in seconds, ascending. starts_s: when each frame appears. keys_s: when each key frame appears, which can be decoded alone.
    end_s: when the last frame ends. cut: why the file could not be read to its end; empty if it could."""

    starts_s: list[float]
    keys_s: list[float]
    end_s: float
    cut: str = ""


def frames(data: bytes, to: Fit, caps: Caps) -> Views:
    """At most one frame per second and at most `caps.frames`, spread evenly over the video; all frames if there are no more than that.
    Raises MediaRefused."""
    kind = of_kind(data, ("mp4", "matroska", "avi"), "a video")
    try:
        with _opened(data, kind) as container:
            line = _timeline(container, _stream(container, caps), caps)
        with _opened(data, kind) as container:
            return _decoded(container, _stream(container, caps), line, to, caps)
    except MediaRefused:
        raise
    except MemoryError as error:
        raise MediaRefused("the video needs more memory than the decoder has") from error
    except Exception as error:  # FFmpeg's errors, raised by PyAV
        raise MediaRefused(f"the {kind} video cannot be read: {words_of(error)}") from error


def _opened(data: bytes, kind: str) -> Any:
    import av

    # no protocol is allowed: a playlist or reference inside the file opens nothing
    return av.open(io.BytesIO(data), format=kind, options={"protocol_whitelist": ""})


def _stream(container: Any, caps: Caps) -> Any:
    if not container.streams.video:
        raise MediaRefused("the file has no video stream")
    stream = container.streams.video[0]
    check_size(stream.codec_context.width, stream.codec_context.height, caps)
    stream.thread_type = "NONE"
    header_s = float(container.duration) / 1e6 if container.duration else 0.0
    if header_s > caps.video_s:
        raise MediaRefused(f"the video is {header_s:.0f} s long by its header; at most {caps.video_s:.0f} s are allowed")
    return stream


def _timeline(container: Any, stream: Any, caps: Caps) -> Timeline:
    """From the packets, without decoding: the header may have no length, or a wrong one."""
    import av

    starts: set[float] = set()
    keys: set[float] = set()
    first_s, last_s, last_duration_s, cut = float("inf"), float("-inf"), 0.0, ""
    rate = float(stream.average_rate or 25)  # for files without timestamps
    try:
        for number, packet in enumerate(container.demux(stream)):
            if not packet.size or packet.is_discard:
                continue
            if number > MAX_PACKETS:
                raise MediaRefused(f"the video has more than {MAX_PACKETS:,} packets")
            stamp = packet.pts if packet.pts is not None else packet.dts
            at_s = float(stamp * packet.time_base) if stamp is not None else len(starts) / rate
            starts.add(at_s)
            first_s = min(first_s, at_s)
            if packet.is_keyframe:
                keys.add(at_s)
            if at_s > last_s:
                last_s, last_duration_s = at_s, float((packet.duration or 0) * packet.time_base)
            if last_s - first_s > caps.video_s:
                raise MediaRefused(f"the video is longer than the {caps.video_s:.0f} s that are allowed")
    except av.FFmpegError as error:
        cut = f"the file cannot be read to its end: {words_of(error)}"
    if not starts:
        raise MediaRefused("the video has no frame that can be decoded")
    mean_s = (last_s - first_s) / (len(starts) - 1) if len(starts) > 1 else 0.0
    return Timeline(sorted(starts), sorted(keys), last_s + (last_duration_s or mean_s), cut)


class _Decoder:
    """Decodes frames in the order of their times, from the last seek on. left: how many more it may decode."""

    def __init__(self, container: Any, stream: Any, max_frames: int) -> None:
        self._container, self._stream, self.left = container, stream, max_frames
        self._frames: Iterator[Any] | None = None
        self._before: Any = None
        self._last: Any = None

    def shown_at(self, at_s: float, key_s: float | None) -> Any:
        """The last frame that starts at or before `at_s`, else the first frame; None if none can be decoded. key_s: the key frame to
        seek to."""
        import av

        if self._frames is None or (key_s is not None and self._last is not None and key_s > self._time_s(self._last)):
            if self._frames is not None:
                try:
                    self._container.seek(round(key_s / self._stream.time_base), stream=self._stream, backward=True)
                    self._before = self._last = None
                except av.FFmpegError:  # no index: the frames in between are decoded
                    pass
            self._frames = self._container.decode(self._stream)
        while self.left > 0 and (self._last is None or self._time_s(self._last) < at_s - SAME_TIME_S):
            frame = next(self._frames, None)
            if frame is None:
                break
            self._before, self._last, self.left = self._last, frame, self.left - 1
        past = self._last is not None and self._time_s(self._last) > at_s + SAME_TIME_S
        return self._before if past and self._before is not None else self._last

    def _time_s(self, frame: Any) -> float:
        if frame.time is not None:
            return float(frame.time)
        return float(frame.dts * self._stream.time_base) if frame.dts is not None else 0.0


def _decoded(container: Any, stream: Any, line: Timeline, to: Fit, caps: Caps) -> Views:
    import av

    decoder = _Decoder(container, stream, MAX_DECODED_PER_VIEW * caps.frames)
    few = len(line.starts_s) <= caps.frames
    max_views = caps.frames if few else max(1, min(caps.frames, round(line.end_s - line.starts_s[0])))
    views: list[tuple[str, Pixels]] = []
    shown: set[float] = set()
    unseen = line.cut
    for index in sampled(line.starts_s, line.end_s, max_views):
        at_s = line.starts_s[index]
        first_key = bisect_right(line.keys_s, at_s) - 1
        try:
            frame = decoder.shown_at(at_s, line.keys_s[first_key] if first_key >= 0 else None)
        except av.FFmpegError as error:
            if not views:
                raise
            unseen = f"it cannot be decoded from {at_s:.1f} s on: {words_of(error)}"
            break
        if frame is not None and (time_s := float(frame.time or 0.0)) not in shown:
            check_size(frame.width, frame.height, caps)
            shown.add(time_s)
            views.append((f"at {time_s:.1f} s", fit(_upright(frame), to)))
        if decoder.left <= 0:
            unseen = f"only the part up to {at_s:.1f} s was read: its key frames lie too far apart"
            break
    if not views:
        raise MediaRefused("the video has no frame that can be decoded")
    return Views(views, unseen or None)


def _upright(frame: Any) -> Any:
    """The picture, rotated by the display matrix (ISO/IEC 14496-12, 6.2.2) to the nearest right angle."""
    from PIL import Image

    pixels = frame.to_ndarray(format="rgb24")
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is not None:
        a, b, _, c, d = (int(number) for number in np.frombuffer(bytes(data), "<i4")[:5])
        if abs(b) > abs(a):  # x' = c y, y' = b x
            pixels, right, down = pixels.swapaxes(0, 1), c, b
        else:
            right, down = a, d
        pixels = pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
    return Image.fromarray(np.ascontiguousarray(pixels))
