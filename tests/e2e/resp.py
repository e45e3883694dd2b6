"""A small RESP2 client that knows what became of a write.

The clients people use hide which attempt failed and how; tests of durability must not. A call here ends in exactly
one of the three outcomes of docs: a reply, *certainly not applied*, or *unknown*, by the rules a careful application
would follow, and never retries on its own.
"""

import socket

# Errors the server gives only for writes that cannot have entered the log.
CERTAINLY_NOT = ("MOVED", "CROSSSLOT", "TRYAGAIN", "CLUSTERDOWN", "OOM", "WRONGTYPE", "ERR", "LOADING", "ASK", "READONLY")
DEFAULT_LIMIT_S = 5.0
RECEIVE_BYTES = 65536


class ReplyError(Exception):
    """An error reply of the server."""

    @property
    def word(self):
        return str(self).split(" ", 1)[0]


class NotApplied(Exception):
    """The write certainly did not happen."""


class Unknown(Exception):
    """The write may or may not have happened, or may still happen."""


class Connection:
    """One connection to one node. Raises OSError when the connection cannot be made."""

    def __init__(self, addr, limit_s=DEFAULT_LIMIT_S):
        host, port = addr.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=limit_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, *words):
        self.send_raw(encode(*words))

    def send_raw(self, data):
        self.socket.sendall(data)

    def call(self, *words):
        """The reply; raises ReplyError for an error reply, OSError if the connection ends first."""
        self.send(*words)
        return self.read_reply()

    def read_reply(self):
        kind, rest = self._line()
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise ReplyError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if int(rest) < 0 else self._exactly(int(rest))
        if kind == b"*":
            return None if int(rest) < 0 else [self.read_reply() for _ in range(int(rest))]
        raise ValueError(f"not a RESP2 reply: {kind + rest!r}")

    def read_to_end(self):
        """Everything up to the moment the server closes the connection."""
        while self._receive():
            pass
        return bytes(self.buffer)

    def _line(self):
        while (end := self.buffer.find(b"\r\n")) < 0:
            self._must_receive()
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line[:1], line[1:]

    def _exactly(self, size):
        while len(self.buffer) < size + 2:
            self._must_receive()
        data = bytes(self.buffer[:size])
        del self.buffer[: size + 2]
        return data

    def _must_receive(self):
        if not self._receive():
            raise ConnectionResetError("closed by the server")

    def _receive(self):
        data = self.socket.recv(RECEIVE_BYTES)
        self.buffer += data
        return len(data)


def cluster_connection(addr, limit_s=DEFAULT_LIMIT_S):
    """A connection that is sent elsewhere with MOVED, and told what its node alone knows: a plain one's calls are
    forwarded, and so depend on two nodes."""
    connection = Connection(addr, limit_s)
    connection.call("CLUSTER", "MYID")
    return connection


def encode(*words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class SlotClient:
    """Writes to one slot's leader, wherever it is: follows MOVED, and looks elsewhere when a node is gone.

    One call is one attempt. After an attempt that failed the next one may go to another node.
    """

    def __init__(self, addrs, limit_s=DEFAULT_LIMIT_S):
        self.addrs, self.limit_s = list(addrs), limit_s
        self.target = 0
        self.connection = None

    def call(self, *words):
        """The reply, or NotApplied or Unknown."""
        try:
            if self.connection is None:
                self.connection = cluster_connection(self.addrs[self.target], self.limit_s)
        except OSError as error:
            self._look_elsewhere()
            raise NotApplied(f"not connected: {error}") from error
        try:
            return self.connection.call(*words)
        except ReplyError as error:
            return self._refused(error)
        except OSError as error:
            self._look_elsewhere()
            raise Unknown(f"connection lost: {error}") from error

    def _refused(self, error):
        if error.word == "MOVED":
            self._follow(str(error).split(" ")[2])
        if error.word in CERTAINLY_NOT:
            raise NotApplied(str(error)) from error
        # UNKNOWN, and any word not known to be safe.
        raise Unknown(str(error)) from error

    def _follow(self, addr):
        self._drop()
        if addr not in self.addrs:
            self.addrs.append(addr)
        self.target = self.addrs.index(addr)

    def _look_elsewhere(self):
        self._drop()
        self.target = (self.target + 1) % len(self.addrs)

    def _drop(self):
        if self.connection:
            self.connection.close()
            self.connection = None


CRC16 = []
for _byte in range(256):
    _crc = _byte << 8
    for _ in range(8):
        _crc = (_crc << 1) ^ 0x1021 if _crc & 0x8000 else _crc << 1
    CRC16.append(_crc & 0xFFFF)


def key_slot(key):
    """The hash slot of a key, hash tags included (Redis cluster specification)."""
    data = key.encode()
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ CRC16[crc >> 8 ^ byte]
    return crc % 16384
