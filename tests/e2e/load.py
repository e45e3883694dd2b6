"""Writers that keep a ledger: which writes were acknowledged, which are unknown, which certainly did not happen.

Each writer owns keys nobody else writes. It sets a new key for every record, and counts in one counter, so that the
ledger shows loss (a record gone), and both loss and doubling (the counter outside its bounds).
"""

import itertools
import threading
import time

from resp import NotApplied, SlotClient, Unknown, key_slot

PAUSE_AFTER_ERROR_S = 0.002
READ_LIMIT_S = 20.0


class Ledger:
    """What one writer knows about its own writes."""

    def __init__(self):
        self.acknowledged, self.unknown, self.refused = [], [], 0
        self.counted, self.maybe_counted = 0, 0
        self.errors = {}


class Writer(threading.Thread):
    """Writes to one slot every `every_s` until stopped; notes the gaps between acknowledgements."""

    def __init__(self, addrs, name, slot, every_s=0.0, limit_s=5.0):
        super().__init__(daemon=True)
        self.client = SlotClient(addrs, limit_s)
        self.name, self.tag, self.every_s = name, tag_for(slot), every_s
        self.ledger = Ledger()
        self.halt = threading.Event()
        self.ack_times = []

    def key(self, record):
        return f"{{{self.tag}}}:{self.name}:{record}"

    @property
    def counter(self):
        return f"{{{self.tag}}}:{self.name}:counter"

    def run(self):
        for record in itertools.count(1):
            if self.halt.is_set():
                return
            self._set(record)
            if record % 8 == 0:
                self._count()
            if self.every_s:
                time.sleep(self.every_s)

    def _set(self, record):
        try:
            self.client.call("SET", self.key(record), record)
            self.ledger.acknowledged.append(record)
            self.ack_times.append(time.monotonic())
        except Unknown as error:
            self.ledger.unknown.append(record)
            self._note(error)
        except NotApplied as error:
            self.ledger.refused += 1
            self._note(error)

    def _count(self):
        try:
            self.client.call("INCR", self.counter)
            self.ledger.counted += 1
        except Unknown as error:
            self.ledger.maybe_counted += 1
            self._note(error)
        except NotApplied as error:
            self._note(error)

    def _note(self, error):
        word = str(error).split(":")[0].split(" ")[0]
        self.ledger.errors[word] = self.ledger.errors.get(word, 0) + 1
        time.sleep(PAUSE_AFTER_ERROR_S)

    def longest_gap_s(self, since, until):
        """The longest time without an acknowledgement inside the window."""
        times = [since, *(t for t in self.ack_times if since < t < until), until]
        return max(after - before for before, after in itertools.pairwise(times))


class Load:
    """A set of writers, as a context manager: writing inside, stopped after."""

    def __init__(self, cluster, per_group=2, every_s=0.0, limit_s=5.0):
        self.addrs = cluster.addrs()
        self.by_group = {
            group: [Writer(self.addrs, f"g{group}w{w}", slot, every_s, limit_s) for w in range(per_group)]
            for group, slot in cluster.slotted_groups().items()
        }
        self.writers = [writer for writers in self.by_group.values() for writer in writers]

    def __enter__(self):
        for writer in self.writers:
            writer.start()
        return self

    def __exit__(self, *_):
        for writer in self.writers:
            writer.halt.set()
        for writer in self.writers:
            writer.join()

    def meet(self, addr):
        """Tells the writers of one more address."""
        for writer in self.writers:
            writer.client.addrs.append(addr)

    def acknowledged(self):
        return sum(len(w.ledger.acknowledged) for w in self.writers)

    def check(self):
        """Asserts that nothing acknowledged is gone and nothing is there twice; returns the figures."""
        lost, found_unknown = [], 0
        for writer in self.writers:
            ledger = writer.ledger
            lost += [writer.key(r) for r in ledger.acknowledged if self._read(writer, writer.key(r)) != str(r)]
            found_unknown += sum(self._read(writer, writer.key(r)) is not None for r in ledger.unknown)
            count = int(self._read(writer, writer.counter) or 0)
            most = ledger.counted + ledger.maybe_counted
            assert ledger.counted <= count <= most, f"{writer.counter}: {count}, not in {ledger.counted}..{most}"
        figures = {
            "acknowledged": self.acknowledged(),
            "unknown": sum(len(w.ledger.unknown) for w in self.writers),
            "found of unknown": found_unknown,
            "refused": sum(w.ledger.refused for w in self.writers),
            "lost": len(lost),
        }
        print(figures)
        assert not lost, f"{len(lost)} acknowledged writes are gone, such as {lost[:5]}"
        assert figures["acknowledged"] > 0, "no write was acknowledged: the test has shown nothing"
        return figures

    def _read(self, writer, key):
        deadline = time.monotonic() + READ_LIMIT_S
        while True:
            try:
                value = writer.client.call("GET", key)
                return None if value is None else value.decode()
            except (NotApplied, Unknown) as error:
                assert time.monotonic() < deadline, f"{key} cannot be read: {error}"
                time.sleep(0.02)


def tag_for(slot):
    """A hash tag that falls into the slot."""
    return next(str(n) for n in itertools.count() if key_slot(str(n)) == slot)
