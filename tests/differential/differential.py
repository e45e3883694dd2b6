"""Sends the same random commands to redis-server and to quoris and compares replies and state.

A run is made of sequences, each of which starts with empty servers and follows from the seed and its number alone.
When replies or states differ, the sequence is shrunk to the fewest calls that still differ, and printed.
"""

import argparse
import itertools
import os
import random
import signal
import sys
import time

import servers
from compare import alike, first_difference
from generate import FAMILIES, FOUND, Generator, Step
from wire import Connection

SEQUENCE_STEPS = 400
# Steps in a pipeline; the whole state is compared after each.
PIPELINE_STEPS = 100
# Distinct differences before a run gives up.
MOST_DIFFERENCES = 25
SHRINK_LIMIT_S = 30.0
# What is shown of the log of a server that has stopped.
LOG_CHARACTERS = 4000
SHOWN_CHARACTERS = 400
READS = {
    b"hash": [[b"HGETALL"]],
    b"list": [[b"LRANGE", 0, b"0", b"-1"]],
    b"set": [[b"SMEMBERS"]],
    b"zset": [[b"ZRANGE", 0, b"0", b"-1", b"WITHSCORES"]],
    b"stream": [[b"XRANGE", 0, b"-", b"+"], [b"XINFO", b"STREAM", 0, b"FULL", b"COUNT", b"0"], [b"XINFO", b"STREAM", 0]],
    b"string": [[b"GET"]],
}


class Difference(Exception):
    """Where two servers differ: the call, what each said, and a name for differences of this kind."""

    def __init__(self, where, call, redis, quoris):
        self.where, self.call, self.redis, self.quoris = where, call, redis, quoris
        inner = call[4:] if call[0].upper() == b"EVAL" and len(call) > 4 else call
        self.kind = (where, inner[0].upper())


class Pair:
    """Both servers, through one connection each."""

    def __init__(self, redis_addr, quoris_addr, protocol):
        self.protocol = protocol
        self.redis = Connection(redis_addr, protocol)
        self.quoris = Connection(quoris_addr, protocol)

    def close(self):
        self.redis.close()
        self.quoris.close()

    def run(self, calls):
        self.redis.send(calls)
        self.quoris.send(calls)
        return self.redis.receive(len(calls)), self.quoris.receive(len(calls))

    def run_steps(self, steps):
        """Runs them in one pipeline; raises the first `Difference`."""
        redis, quoris = self.run([call for step in steps for call in step.calls])
        at = 0
        for step in steps:
            end = at + len(step.calls)
            number = first_difference(step, redis[at:end], quoris[at:end])
            if number is not None:
                raise Difference(step.kind, step.calls[number], redis[at + number], quoris[at + number])
            at = end

    def compare_states(self, where, keys):
        self.compare(where, [[word, key] for key in keys for word in (b"TYPE", b"PEXPIRETIME")])
        self.compare(where, [[b"OBJECT", b"ENCODING", key] for key in keys])
        self.compare(where, [read for key in keys for read in self.reads(key)])

    def reads(self, key):
        """The calls that show all of what is at `key`."""
        found = self.types[key]
        return [[key if word == 0 else word for word in read] if 0 in read else [*read, key] for read in READS.get(found, [])]

    def compare(self, where, calls):
        redis, quoris = self.run(calls)
        for call, mine, theirs in zip(calls, redis, quoris, strict=True):
            if not alike(call, mine, theirs):
                raise Difference(where, call, mine, theirs)
        self.types = {call[1]: reply.content for call, reply in zip(calls, redis, strict=True) if call[0] == b"TYPE"} or getattr(self, "types", {})

    def exchange(self, keys):
        """Restores each server's dumps in the other one."""
        dumps = self.run([[b"DUMP", key] for key in keys])
        for key, redis, quoris in zip(keys, *dumps, strict=True):
            if type(redis) is not type(quoris):
                raise Difference("exchange", [b"DUMP", key], redis, quoris)
        for target, payloads in ((self.quoris, dumps[0]), (self.redis, dumps[1])):
            dumped = [(key, dump) for key, dump in zip(keys, payloads, strict=True) if isinstance(dump, bytes)]
            calls = [[b"RESTORE", key, b"0", dump, b"REPLACE"] for key, dump in dumped]
            for call, reply in zip(calls, target.run(calls), strict=True):
                if getattr(reply, "content", None) != b"OK":
                    raise Difference("exchange", call, "the other one's DUMP", reply)


def sequence(seed, number, families):
    """The steps of a sequence, and the protocol they are sent in."""
    draw = random.Random(f"{seed}/{number}")
    names = families or list(FAMILIES)
    # Half of the sequences keep to few families, for depth.
    if draw.random() < 0.5 and len(names) > 2:
        names = draw.sample(names, 2)
    generator = Generator(draw, names)
    return [generator.step() for _ in range(SEQUENCE_STEPS)], draw.choice((2, 3)), generator.words


class Runner:
    def __init__(self, redis_addr, quoris_addr, exchange=True):
        self.pairs = {protocol: Pair(redis_addr, quoris_addr, protocol) for protocol in (2, 3)}
        self.exchanges = exchange

    def play(self, steps, protocol, keys):
        """Runs the steps on empty servers; the first `Difference`, or `None`."""
        pair = self.pairs[protocol]
        pair.run([[b"FLUSHALL"], [b"SCRIPT", b"FLUSH"]])
        try:
            for at in range(0, len(steps), PIPELINE_STEPS):
                pair.run_steps(steps[at : at + PIPELINE_STEPS])
                pair.compare_states("state", keys)
            pair.exchange(keys)
            pair.compare_states("exchanged state", keys)
        except Difference as difference:
            return difference
        return None

    def shrink(self, steps, protocol, keys, kind):
        """The fewest and shortest steps found that still differ in this way."""
        deadline = time.monotonic() + SHRINK_LIMIT_S

        def differs(candidate):
            difference = self.play(candidate, protocol, keys)
            return difference is not None and difference.kind == kind

        steps = fewest(steps, differs, deadline)
        for number, step in enumerate(steps):
            for at, call in enumerate(step.calls):
                if step.kind == "random" or len(call) < 3 or call[0] == b"EVAL":
                    continue

                def with_call(words, number=number, at=at):
                    step = steps[number]
                    calls = (*step.calls[:at], [call[0], *words], *step.calls[at + 1 :])
                    return [*steps[:number], Step(step.kind, calls), *steps[number + 1 :]]

                words = fewest(call[1:], lambda words: differs(with_call(words)), deadline)
                steps = with_call(words)
        return steps


def fewest(items, holds, deadline):
    """Drops runs of items, long ones first, while `holds` is true of what remains."""
    size = max(1, len(items) // 2)
    while time.monotonic() < deadline:
        at, dropped = 0, False
        while at < len(items) and time.monotonic() < deadline:
            rest = items[:at] + items[at + size :]
            if holds(rest):
                items, dropped = rest, True
            else:
                at += size
        if size == 1 and not dropped:
            break
        size = max(1, size // 2)
    return items


def show(word):
    text = repr(bytes(word))[2:-1].replace('"', '\\"')
    if len(text) > 200:
        text = f"{text[:80]}…({len(word)} bytes)"
    return f'"{text}"' if not text or any(letter in text for letter in " \\'{}()*[]#") else text


def report(difference, steps, seed, number, protocol):
    print(f"--- difference in {difference.where} (seed {seed}, sequence {number}, RESP{protocol})")
    for step in steps:
        for call in step.calls:
            shown = call if len(call) < 40 else [*call[:40], b"...%d words" % len(call)]
            print("    ", *map(show, shown))
    print("  at:     ", *map(show, difference.call[:12]))
    replies = [str(difference.redis), str(difference.quoris)]
    # A long reply is shown from shortly before the place where they part.
    same = len(os.path.commonprefix(replies))
    begin = max(0, same - SHOWN_CHARACTERS // 2) if same > SHOWN_CHARACTERS // 2 else 0
    for name, reply in zip(("redis", "quoris"), replies, strict=True):
        print(f"  {name + ':':8} {'…' if begin else ''}{reply[begin : begin + SHOWN_CHARACTERS]}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=50_000, help="how many to send to each server, at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="SEQUENCE", help="begin with this sequence of the seed")
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="these alone; may be repeated")
    parser.add_argument("--port", type=int, default=28100, help="this and the next three are used")
    parser.add_argument("--binary", help="the quoris to start")
    parser.add_argument("--quoris", metavar="HOST:PORT", help="a quoris that runs already, whose data will be lost")
    arguments = parser.parse_args()
    # The servers end with this process, however it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with servers.redis(arguments.port) as redis:
        if arguments.quoris:
            return run(arguments, redis.addr, arguments.quoris)
        with servers.quoris(arguments.binary, arguments.port + 2) as quoris:
            try:
                return run(arguments, redis.addr, quoris.addr)
            except OSError:
                print(quoris.log.read_text()[:LOG_CHARACTERS])
                raise


def run(arguments, redis_addr, quoris_addr):
    runner = Runner(redis_addr, quoris_addr)
    began, sent, kinds = time.monotonic(), 0, set()
    for number in itertools.count(arguments.first):
        if sent >= arguments.commands or len(kinds) >= MOST_DIFFERENCES:
            break
        steps, protocol, words = sequence(arguments.seed, number, arguments.family)
        keys = [*itertools.chain.from_iterable(words.keys.values()), FOUND, b"elsewhere"]
        try:
            difference = runner.play(steps, protocol, keys)
        except OSError as error:
            print(f"lost a connection in sequence {number} of seed {arguments.seed}: {error}")
            raise
        sent += sum(len(step.calls) for step in steps)
        if difference and difference.kind not in kinds:
            kinds.add(difference.kind)
            steps = runner.shrink(steps, protocol, keys, difference.kind)
            report(runner.play(steps, protocol, keys) or difference, steps, arguments.seed, number, protocol)
    seconds = time.monotonic() - began
    verdict = "FAILED" if kinds else "ok"
    print(f"{sent} commands compared in {seconds:.0f} s (seed {arguments.seed}), {len(kinds)} kinds of differences")
    print(f"test result: {verdict}. {0 if kinds else 1} passed; {len(kinds)} failed")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
