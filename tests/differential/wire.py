"""Pipelined RESP2 and RESP3 to one server, replies with their types kept.

A reply is what a client could tell apart: `bytes` for a bulk string, `int`, `list` for an array, `None` for a null bulk
string, and a `Typed` for everything else: simple strings, errors, null arrays and RESP3's own types. Sets and maps
keep the order in which they came; `compare` decides where order counts.
"""

import socket
from typing import NamedTuple

LIMIT_S = 60.0
RECEIVE_BYTES = 1 << 18
AGGREGATES = {ord("*"), ord("~"), ord("%"), ord(">"), ord("|")}


class Typed(NamedTuple):
    """A reply that is no bulk string, integer or array: RESP's mark for its type, and its content."""

    mark: str
    content: object


NULL_ARRAY = Typed("*", None)


class Connection:
    """One connection, in one version of the protocol."""

    def __init__(self, addr, protocol):
        host, port = addr.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data, self.at = b"", 0
        if protocol == 3:
            self.run([[b"HELLO", b"3"]])

    def close(self):
        self.socket.close()

    def run(self, calls):
        """The replies to `calls`, sent in one pipeline."""
        self.send(calls)
        return self.receive(len(calls))

    def send(self, calls):
        self.socket.sendall(b"".join(map(encode, calls)))

    def receive(self, count):
        return [self._reply() for _ in range(count)]

    def call(self, *words):
        return self.run([[word if isinstance(word, bytes) else str(word).encode() for word in words]])[0]

    def _reply(self):
        line = self._line()
        mark, rest = line[0], line[1:]
        if mark == 36:  # $
            return self._exactly(int(rest)) if rest != b"-1" else None
        if mark == 58:  # :
            return int(rest)
        if mark in AGGREGATES:
            if rest == b"-1":
                return NULL_ARRAY
            size = int(rest) * (2 if mark in b"%|" else 1)
            content = [self._reply() for _ in range(size)]
            return content if mark == 42 else Typed(chr(mark), content)
        if mark in b"=!":
            return Typed(chr(mark), self._exactly(int(rest)))
        if mark in b"+-,_#(":
            return Typed(chr(mark), rest)
        raise ValueError(f"not a reply: {line!r}")

    def _line(self):
        while (end := self.data.find(b"\r\n", self.at)) < 0:
            self._more()
        line = self.data[self.at : end]
        self.at = end + 2
        return line

    def _exactly(self, size):
        while len(self.data) < self.at + size + 2:
            self._more()
        data = self.data[self.at : self.at + size]
        self.at += size + 2
        return data

    def _more(self):
        received = self.socket.recv(RECEIVE_BYTES)
        if not received:
            raise ConnectionResetError("closed by the server")
        self.data = self.data[self.at :] + received
        self.at = 0


def encode(words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)
