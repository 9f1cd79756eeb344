"""Run a command where it sees no network but this machine's loopback: Ray listens on all interfaces.

python -m tests.own_network COMMAND... , to be called inside `unshare --map-root-user --net`.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h
ENTER = ["unshare", "--map-root-user", "--net"]


def is_possible() -> bool:
    """Whether this machine lets a user have a network of its own."""
    try:
        return subprocess.run([*ENTER, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def popen(command: Sequence[str], home: os.PathLike[str]) -> subprocess.Popen[str]:
    """Start a command in a network of its own, with an empty home, so that it finds no other Ray."""
    own = {**os.environ, "HOME": os.fspath(home), "RAY_TMPDIR": os.fspath(home), "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        [*ENTER, sys.executable, "-m", "tests.own_network", *command],
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


if __name__ == "__main__":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    os.execvp(sys.argv[1], sys.argv[1:])
