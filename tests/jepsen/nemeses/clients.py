"""Clients that misbehave."""

import contextlib
import threading

from nemeses import Nemesis
from resp import Connection, encode

CLIENTS = 60
VALUE = "x" * 60_000
STALLED_REPLIES = 200


class Flood(Nemesis):
    """Dozens of clients write large values, and ask for more than they read."""

    name = "flood"

    def strike(self):
        self.open, self.halt = [], threading.Event()
        for number in range(CLIENTS):
            addr = self.rng.choice(self.target.addrs())
            threading.Thread(target=self.flood, args=(number, addr), daemon=True).start()
        return f"{CLIENTS} clients"

    def flood(self, number, addr):
        """Stops reading after a while: the node must bear with replies that nobody takes."""
        with contextlib.suppress(Exception):
            connection = Connection(addr, 2.0)
            self.open.append(connection)
            key = f"flood:{number}"
            connection.call("SET", key, VALUE)
            connection.send_raw(encode("GET", key) * STALLED_REPLIES)
            while not self.halt.is_set():
                connection.send_raw(encode("SET", key, VALUE[: 1000 * (number % 20 + 1)]))
                self.halt.wait(0.02)

    def relieve(self):
        self.halt.set()
        for connection in self.open:
            connection.close()


ALL = (Flood,)
