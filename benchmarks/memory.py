"""How much memory this process has taken at most."""

from __future__ import annotations

import re
from pathlib import Path


def peak_megabytes() -> int:
    """The most resident memory so far (Linux).

    ``resource.getrusage`` would not do: what the parent took when it started this process counts there.
    """
    [found] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found) >> 10
