"""Peak memory of this process, for benchmarks that run a contender in a process of its own."""

from __future__ import annotations

import re
from pathlib import Path


def peak_megabytes() -> int:
    """The largest resident memory so far, in MB (Linux).

    ``resource.getrusage`` does not do: it counts the parent's memory at the time it started this process.
    """
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(kilobytes) >> 10
