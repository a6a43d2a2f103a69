"""A loop's Prometheus page, and the figures from two readings of it. Pure except for `page`, `Uses` and `gpus`."""

from __future__ import annotations

import math
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from streams.metrics import CATALOGUE, Kind

LIMIT_S = 1.0
MAX_BYTES = 1024 * 1024
_ADDRESS = re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):([1-9]\d{0,4})")
_LINE = re.compile(r"^(\w+?)(_bucket|_sum|_count)?(?:\{([^}]*)\})? (\S+)$")
_EDGE = re.compile(r'le="([^"]+)"')
_BY_NAME = {metric.exported: name for name, metric in CATALOGUE.items()}
_HISTOGRAMS = {name for name, metric in CATALOGUE.items() if metric.kind is Kind.HISTOGRAM}


@dataclass
class Page:
    """numbers: sums over labels. buckets: (upper edge, cumulative count); the last edge is infinite."""

    numbers: dict[str, float] = field(default_factory=dict)
    buckets: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def page(address: str, limit_s: float = LIMIT_S) -> Page | None:
    """None if nothing answers: the loop has ended or not started.

    The address comes from a status record, which anybody may have written. So only ports of this machine and this one path are
    read, no redirect is followed, and an answer takes at most `limit_s` from first to last byte and has at most MAX_BYTES."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65_535:
        return None
    try:
        text = _get(match[1].strip("[]"), int(match[2]), time.monotonic() + limit_s)
        return None if text is None else parse(text)
    except (OSError, ValueError):
        return None


def _get(host: str, port: int, until_s: float) -> str | None:
    """The body of /metrics; None if the status is not 200, or the answer is too long or too slow.

    HTTP/1.0 over a plain socket: the time limit of HTTP libraries applies to each read, so a server that sends byte by byte
    never exceeds it."""
    received = bytearray()
    with socket.create_connection((host, port), timeout=max(0.001, until_s - time.monotonic())) as connection:
        connection.sendall(f"GET /metrics HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        while (left_s := until_s - time.monotonic()) > 0:
            connection.settimeout(left_s)
            part = connection.recv(65_536)
            if not part:
                head, _, body = bytes(received).partition(b"\r\n\r\n")
                return body.decode(errors="replace") if re.match(rb"HTTP/1\.[01] 200\b", head) else None
            received += part
            if len(received) > MAX_BYTES:
                return None
    return None


def parse(text: str) -> Page:
    """The metrics of the catalogue; other lines, and values that are not finite numbers, are ignored."""
    page = Page()
    for line in text.splitlines():
        if not line.startswith("millrace_"):
            continue
        match = _LINE.match(line)
        if match is None:
            continue
        exported, part, labels, value = match.groups()
        name = _BY_NAME.get(exported)
        if name is None or not _is_number(value):
            continue
        if name not in _HISTOGRAMS:
            page.numbers[name] = page.numbers.get(name, 0.0) + float(value)
        elif part == "_bucket" and labels is not None and (edge := _EDGE.search(labels)):
            page.buckets.setdefault(name, []).append((float(edge[1]), float(value)))
    return page


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def rates(before: Page, now: Page, elapsed_s: float) -> dict[str, float]:
    """Counters per second. After a restart of the loop a counter starts again at zero."""
    rates = {}
    for name, value in now.numbers.items():
        if CATALOGUE[name].kind is Kind.COUNTER:
            old = before.numbers.get(name, 0.0)
            rates[name] = (value - old if value >= old else value) / max(1e-6, elapsed_s)
    return rates


def between(before: Page, now: Page, name: str) -> list[tuple[float, float]]:
    """(upper edge, count) of the additions to each bucket between two readings; not cumulative."""
    old = dict(before.buckets.get(name, ()))
    cumulative = [(edge, count - old.get(edge, 0.0)) for edge, count in now.buckets.get(name, ())]
    if any(count < 0 for _, count in cumulative):
        cumulative = list(now.buckets[name])
    last, counts = 0.0, []
    for edge, count in cumulative:
        counts.append((edge, count - last))
        last = count
    return counts


def quantile(counts: list[tuple[float, float]], share: float) -> float | None:
    """Interpolated within its bucket; the last finite edge if the quantile is above it. None if there are no counts."""
    n = sum(count for _, count in counts)
    if not n:
        return None
    left, low = share * n, 0.0
    for edge, count in counts:
        if count and left <= count:
            return low if edge == float("inf") else low + (edge - low) * left / count
        left -= count
        low = edge if edge != float("inf") else low
    return low


class Uses:
    """Processor time and memory of processes on this machine, by pid."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def of(self, pid: int) -> Mapping[str, float]:
        """cpu_share: of one core, since the last call; memory_bytes: resident. Empty if the process does not exist."""
        try:
            process = self._processes.get(pid)
            if process is None:
                process = self._processes[pid] = psutil.Process(pid)
                process.cpu_percent()
                return {"memory_bytes": float(process.memory_info().rss)}
            return {"cpu_share": process.cpu_percent() / 100, "memory_bytes": float(process.memory_info().rss)}
        except psutil.Error:
            self._processes.pop(pid, None)
            return {}


@dataclass(frozen=True)
class Gpu:
    """busy_share: 0 to 1."""

    index: str
    name: str
    busy_share: float
    memory_bytes: int
    memory_total_bytes: int


GPU_QUERY = ("--query-gpu=index,name,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")


def gpus() -> list[Gpu]:
    """The GPUs that `nvidia-smi` reports; none if it is missing or does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        return gpus_of(subprocess.run([tool, *GPU_QUERY], capture_output=True, text=True, timeout=2 * LIMIT_S, check=True).stdout)
    except (OSError, subprocess.SubprocessError):
        return []


def gpus_of(text: str) -> list[Gpu]:
    """The output of GPU_QUERY; lines without numbers are ignored."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 5 and all(number.isdigit() for number in parts[2:]):
            busy, used, total = map(int, parts[2:])
            gpus.append(Gpu(parts[0], parts[1], busy / 100, used << 20, total << 20))
    return gpus
