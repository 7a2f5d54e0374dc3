"""
Ports for servers of our own.

They are taken from below the range that the system hands to outgoing connections, else a server's port
may be in use by a stranger's connection at the moment the server wants it.
"""

import random
import socket

LOOPBACK = "127.0.0.1"
LOWEST, HIGHEST = 15000, 32000
ATTEMPTS_MAX = 200


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Say whether a server could listen on a port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """Return a port that is free now, the preferred one if it is."""
    if preferred is not None and is_free(preferred):
        return preferred
    for _ in range(ATTEMPTS_MAX):
        port = random.randint(LOWEST, HIGHEST)
        if is_free(port):
            return port
    raise OSError(f"no free port was found between {LOWEST} and {HIGHEST}")


def answers(port: int, host: str = LOOPBACK, *, timeout_seconds: float = 1.0) -> bool:
    """Say whether something listens on a port."""
    try:
        with socket.create_connection((host, port), timeout_seconds):
            return True
    except OSError:
        return False
