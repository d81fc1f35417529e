"""What git starts in place of an ssh client: it connects its input and output with a socket of the engine.

Run as a program of its own, without site packages: standard library only. It knows no secret.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

SOCKET = "HEADRACE_GIT_SOCKET"
"""The variable of the environment that names the socket."""
_CHUNK = 256 * 1024


def _upwards(connection: socket.socket) -> None:
    while data := os.read(0, _CHUNK):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def main() -> int:
    """Pass everything on until the other end is closed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(os.environ[SOCKET])
        threading.Thread(target=_upwards, args=(connection,), daemon=True).start()
        while data := connection.recv(_CHUNK):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
