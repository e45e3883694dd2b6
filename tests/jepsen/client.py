"""A client of a run: one attempt per call, one of three outcomes, no retries.

`cluster` clients keep a map of slots, learn it from MOVED, and go to the leader themselves. `plain` ones stay with one
node, whatever the key, and go to another only when that one fails them.
"""

import time

from outcomes import NotApplied, ReplyError, Unknown, raise_for
from resp import Connection, encode, key_slot

PAUSE_AFTER_FAILED_CONNECT_S = 0.02


class Link(Connection):
    """A connection that hands errors inside of arrays over as values, so that the replies stay in step."""

    def read_reply(self):
        kind, rest = self._line()
        if kind == b"*":
            return None if int(rest) < 0 else [self._element() for _ in range(int(rest))]
        self.buffer[:0] = kind + rest + b"\r\n"
        return super().read_reply()

    def _element(self):
        try:
            return self.read_reply()
        except ReplyError as error:
            return error


class Client:
    """Belongs to one thread. `addrs` says where nodes are now, for they come and go."""

    def __init__(self, addrs, rng, plain, limit_s, translate=lambda addr: addr):
        self.addrs, self.rng, self.plain, self.limit_s = addrs, rng, plain, limit_s
        self.translate = translate
        self.home = rng.choice(addrs())
        self.links, self.places = {}, {}

    def call(self, key, *words):
        """The reply to one command on `key`; raises NotApplied or Unknown."""
        return self.exchange(key, [words])[0]

    def transaction(self, key, calls):
        """The replies of MULTI, the calls and EXEC, sent at once: EXEC's array, or None if a watch refused it."""
        return self.exchange(key, [("MULTI",), *calls, ("EXEC",)])[-1]

    def exchange(self, key, calls):
        """Sends calls at once and reads all their replies; the last one decides what became of them."""
        slot = key_slot(key)
        link, addr = self.link_for(slot)
        try:
            link.send_raw(b"".join(encode(*words) for words in calls))
            replies = [self._reply(link, slot) for _ in calls]
        except (OSError, ValueError) as error:
            self.forsake(addr)
            raise Unknown(f"connection: {type(error).__name__}") from error
        if isinstance(replies[-1], ReplyError):
            raise_for(replies[-1])
        return replies

    def link_for(self, slot):
        """An open connection to where the slot is believed to be; NotApplied if none can be made."""
        addr = self.home if self.plain else self.places.get(slot, self.home)
        if addr not in self.links:
            try:
                self.links[addr] = link = Link(addr, self.limit_s)
                if not self.plain:
                    # Only a client that asks for the cluster is sent elsewhere rather than served by forwarding.
                    link.call("CLUSTER", "MYID")
            except (OSError, ReplyError, ValueError) as error:
                self.forsake(addr)
                time.sleep(PAUSE_AFTER_FAILED_CONNECT_S)
                raise NotApplied(f"connect: {type(error).__name__}") from error
        return self.links[addr], addr

    def _reply(self, link, slot):
        try:
            return link.read_reply()
        except ReplyError as error:
            if error.word == "MOVED":
                self.places[slot] = self.translate(str(error).split(" ")[2])
            return error

    def forsake(self, addr):
        """After a failure: drops the connection, and looks elsewhere for what was there."""
        if link := self.links.pop(addr, None):
            link.close()
        self.places = {slot: place for slot, place in self.places.items() if place != addr}
        if self.home == addr:
            self.home = self.rng.choice([other for other in self.addrs() if other != addr] or [addr])

    def close(self):
        for link in self.links.values():
            link.close()
        self.links.clear()
