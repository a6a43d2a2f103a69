"""Weights in large pages of memory: every token reads all of them, and with pages of 4 KiB the processor loses a quarter of its time to
looking pages up. Linux only, and best effort: where the kernel refuses, nothing changes but the speed.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

MAPS = Path("/proc/self/smaps")
REGION = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw.p \S+ \S+ 0 +(?:\[heap\])?\n((?:\w+:.*\n)+)", re.MULTILINE)  # memory of no file
PAGE_BYTES = 2 * 1024 * 1024
ADVISE, COLLAPSE = 14, 25  # MADV_HUGEPAGE; MADV_COLLAPSE, since Linux 6.1
ADVISED = re.compile(r"^VmFlags:.* hg\b", re.MULTILINE)  # NumPy's large arrays; where they are not used yet, they stay so


def use_large_pages() -> int:
    """For all that this process has allocated so far. Returns the bytes of the regions that the kernel accepted."""
    if not MAPS.is_file():
        return 0
    library, accepted = ctypes.CDLL(None), 0
    library.malloc_trim(0)  # what is free is not worth a large page
    for first, last, facts in REGION.findall(MAPS.read_text()):
        start, end = -(-int(first, 16) // PAGE_BYTES) * PAGE_BYTES, int(last, 16) // PAGE_BYTES * PAGE_BYTES
        if end <= start or ADVISED.search(facts):
            continue
        region = ctypes.c_void_p(start), ctypes.c_size_t(end - start)
        if library.madvise(*region, ADVISE) == 0 and library.madvise(*region, COLLAPSE) == 0:
            accepted += end - start
    return accepted
