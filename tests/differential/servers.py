"""A redis-server and a node of quoris, alike as far as settings go: cluster mode, all slots, nothing evicted."""

import subprocess
import tempfile
import time
from pathlib import Path

from wire import Connection, Typed

TESTS = Path(__file__).resolve().parent.parent
REDIS_SERVER = TESTS / ".tools" / "bin" / "redis-server"
START_LIMIT_S = 30.0


class Server:
    """A server process of ours; its files are gone with it."""

    def __init__(self, name, port, ready):
        self.addr = f"127.0.0.1:{port}"
        self.name, self.ready = name, ready
        self.dir = tempfile.TemporaryDirectory(prefix=f"quoris-differential-{name}-")

    def start(self, command):
        self.log = Path(self.dir.name) / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.dir.name)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.dir.cleanup()

    def _answers(self):
        try:
            connection = Connection(self.addr, 2)
        except OSError:
            return False
        with_reply = self.ready(connection)
        connection.close()
        return with_reply


def redis(port):
    server = Server("redis", port, lambda connection: connection.call("PING") == Typed("+", b"PONG"))
    flags = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes"]
    server.start([REDIS_SERVER, *flags, "--cluster-port", str(port + 1), "--enable-debug-command", "yes"])
    connection = Connection(server.addr, 2)
    connection.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    while b"cluster_state:ok" not in connection.call("CLUSTER", "INFO"):
        time.sleep(0.05)
    connection.close()
    return server


def quoris(binary, port):
    # A write tells that the one group has found its leader.
    server = Server("quoris", port, lambda connection: connection.call("SET", "ready", 1) == Typed("+", b"OK"))
    cluster = f"1=127.0.0.1:{port}@127.0.0.1:{port + 1}"
    flags = ["--node-id", "1", "--initial-cluster", cluster, "--groups", "1", "--enable-debug-command", "yes"]
    # A disk that others keep busy is no difference.
    flags += ["--write-timeout-ms", "60000"]
    server.start([binary, "serve", *flags, "--data-dir", str(Path(server.dir.name) / "data")])
    return server
