"""
Appends a second of UmaDB: conditional appends of one tagged event each, by client threads, through its own client.

    python umadb_appends.py CALLERS SECONDS OCTETS        in an environment that has umadb (see packages.in)

Prints one line of JSON. Its server comes in its wheel and stands on a file of its own; what was acknowledged is
counted in it afterwards.
"""

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import umadb

START_SECONDS_MAX = 20.0


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(address: str) -> umadb.Client:
    """Return a client of a server that has begun to answer."""
    stop = time.perf_counter() + START_SECONDS_MAX
    while True:
        try:
            client = umadb.Client(address)
            client.head()
        except Exception:  # the client tells no more than that it could not
            if time.perf_counter() > stop:
                raise
            time.sleep(0.1)
        else:
            return client


def measure(address: str, callers: int, seconds: float, octets: int) -> dict[str, float]:
    """Let threads append, each as soon as it was answered."""
    data, counts = b"x" * octets, [0] * callers
    stop = time.perf_counter() + seconds

    def call(caller: int) -> None:
        client = umadb.Client(address)
        while time.perf_counter() < stop:
            tag = f"stock-{uuid.uuid4()}"
            query = umadb.Query([umadb.QueryItem(types=["StockReceived"], tags=[tag])])
            client.append([umadb.Event("StockReceived", data, [tag])], umadb.AppendCondition(query))
            counts[caller] += 1

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"per_second": sum(counts) / (time.perf_counter() - began), "acknowledged": sum(counts)}


def main() -> None:
    """Start a server, measure, count, and print."""
    callers, seconds, octets = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [str(Path(sys.executable).parent / "umadb"), "--listen", address, "--db-path", f"{folder}/u.db"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            client = started(f"http://{address}")
            found = measure(f"http://{address}", callers, seconds, octets)
            found["stored"] = sum(1 for _ in client.read())
        finally:
            server.terminate()
            server.wait(10)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
