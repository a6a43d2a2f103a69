"""Small files of every kind in requests, good and hostile. They are generated here: no file is shipped."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import av
import numpy as np
import soundfile
from PIL import Image, ImageDraw


def digit_seven() -> bytes:
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).line([(60, 50), (140, 50), (95, 160)], fill=0, width=16, joint="curve")
    return encoded(picture)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def noise(side: int = 300, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)
    return encoded(Image.fromarray(pixels), kind)


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header states that number of pixels, whatever follows."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def video(seconds: float = 4.0, last_at_s: float | None = None, bright_from_s: float = 2.0) -> bytes:
    """Ten frames per second, dark and then bright; the last frame is at `last_at_s` if given, and the header states that
    length."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        count = int(seconds * 10)
        for i in range(count):
            pixels = np.full((120, 160, 3), 220 if i / 10 >= bright_from_s else 30, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i if last_at_s is None or i < count - 1 else int(last_at_s * 10)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return out.getvalue()


def sound(seconds: float = 1.0, rate_hz: int = 8000, kind: str = "WAV") -> bytes:
    samples = 0.3 * np.sin(np.arange(int(seconds * rate_hz)) * 440 * 2 * np.pi / rate_hz)
    return sound_of(samples.astype(np.float32), rate_hz, kind)


def sound_of(samples: Any, rate_hz: int = 8000, kind: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate_hz, format=kind)
    return out.getvalue()


def inline(data: bytes) -> dict[str, Any]:
    return {"data": data, "uri": None, "sha256": None, "size": None}


def pictures_video(
    shown: list[tuple[float, Any]], kind: str = "matroska", codec: str = "mpeg4", seekable: bool = True, key_every: int = 12
) -> bytes:
    """Pictures with the times in seconds from which they are visible; the file has no other frame. seekable: if false, it is
    written as a recorder writes it, without its length."""
    out: Any = io.BytesIO() if seekable else _Pipe()
    with av.open(out, "w", format=kind) as container:
        stream: Any = container.add_stream(codec, rate=1000)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = key_every
        if codec == "libvpx":
            stream.options = {"deadline": "realtime", "cpu-used": "8"}
        for at_s, picture in shown:
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(at_s * 1000), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return out.getvalue() if seekable else bytes(out.written)


class _Pipe:
    """A file that accepts writes and cannot seek back."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)


def grey(level: int) -> Any:
    return np.full((120, 160, 3), level, np.uint8)


def turned(mp4: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """The video with another display matrix: a, b, c, d as defined in ISO/IEC 14496-12."""
    at = mp4.index(b"tkhd") + 4 + 40
    a, b, c, d = (number << 16 for number in matrix)
    return mp4[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + mp4[at + 36 :]
