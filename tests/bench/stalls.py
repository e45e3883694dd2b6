"""Measures for how long big things keep other clients waiting. Run by stalls.sh.

Four probes call all the time: GET and SET of a small key of the group that the big thing concerns, and of another group
(if there is one), each at the node that leads it. What they saw while the big thing was going on stands beside what they
saw just before it, for as long, on the same machine in the same minute: what differs is the big thing's doing.
"""

import argparse
import inspect
import json
import os
import re
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "e2e"))

from cluster import Cluster, built, wait_until  # noqa: E402
from load import tag_for  # noqa: E402
from resp import Connection, encode  # noqa: E402

VALUE_BYTES = 64 << 20
ELEMENTS, ELEMENTS_PER_CALL = 10_000_000, 10_000
RANGE = 100_000
PIPELINE = 100_000
IDLE = 10_000
LIMIT_S = 120.0
SETTLE_S = 1.0
# What comes of a big thing after its reply: followers apply it, memory is given back.
AFTER_S = 0.3
QUIET_S = 2.0
RECEIVE_BYTES = 1 << 20


class Client(Connection):
    """A connection that does not spend the machine's time on looking at what it is sent."""

    def exchange(self, data, size):
        """Sends all of `data` while it reads the reply's `size` bytes."""
        self.socket.setblocking(False)
        begins = True
        room, data = memoryview(bytearray(RECEIVE_BYTES)), memoryview(data)
        while size > 0 or data:
            readable, writable, _ = select.select([self.socket], [self.socket] if data else [], [], LIMIT_S)
            assert readable or writable, "no answer in time"
            if writable:
                data = data[self.socket.send(data) :]
            if readable:
                read = self.socket.recv_into(room)
                assert read, "closed by the server"
                assert room[0] != ord("-") or not begins, f"the server answers {bytes(room[:read])}"
                size, begins = size - read, False
        assert size == 0, "more than was asked for"
        self.socket.settimeout(LIMIT_S)


class Place:
    """Where the big things go: one group's leader, and keys of its; and a place of another group."""

    def __init__(self, cluster):
        groups = cluster.slotted_groups()
        first, other = sorted(groups)[0], sorted(groups)[-1]
        self.cluster = cluster
        self.tag, self.addr = tag_for(groups[first]), cluster.wait_led(first).client_addr
        self.other = None if other == first else (tag_for(groups[other]), cluster.wait_led(other).client_addr)

    def key(self, name):
        return f"{{{self.tag}}}:{name}"

    def probes(self):
        """{name: what the probe program is told}."""
        places = {"same": (self.tag, self.addr)}
        if self.other:
            places["other"] = self.other
        return {
            f"{kind} {where}": f"{kind}:{{{tag}}}:probe@{addr}"
            for where, (tag, addr) in places.items()
            for kind in ("get", "set")
        }


class Probes:
    """The probes, from the beginning of a cluster to its end."""

    def __init__(self, place, scratch):
        self.names, self.out = list(place.probes()), Path(scratch) / "calls"
        with Connection(place.addr) as connection:
            connection.call("SET", place.key("probe"), "0123456789")
        arguments = [word for probe in place.probes().values() for word in ("--probe", probe)]
        command = [built("quoris-bench-load"), "probe", *arguments, "--out", str(self.out)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def calls(self):
        """{name: [(when it began, how long it took)]}, in nanoseconds; the probes end."""
        self.process.stdin.close()
        assert self.process.wait(LIMIT_S) == 0, "a probe has failed"
        calls = defaultdict(list)
        for line in self.out.read_text().splitlines():
            probe, began, took = map(int, line.split())
            calls[self.names[probe]].append((began, took))
        return calls


# Each thing is (name, done by).


def set_value(client, place):
    client.exchange(encode("SET", place.key("value"), b"x" * VALUE_BYTES), len("+OK\r\n"))


def get_value(client, place):
    header = len(f"${VALUE_BYTES}\r\n")
    client.exchange(encode("GET", place.key("value")), header + VALUE_BYTES + 2)


def del_value(client, place):
    assert client.call("DEL", place.key("value")) == 1


def push_list(client, place):
    element = b"12345678"
    call = encode("RPUSH", place.key("list"), *[element] * ELEMENTS_PER_CALL)
    for _ in range(ELEMENTS // ELEMENTS_PER_CALL):
        client.send_raw(call)
        client.read_reply()
    assert client.call("LLEN", place.key("list")) == ELEMENTS


def range_list(client, place):
    middle = ELEMENTS // 2
    size = len(f"*{RANGE}\r\n") + RANGE * len("$8\r\n12345678\r\n")
    client.exchange(encode("LRANGE", place.key("list"), middle, middle + RANGE - 1), size)


def save(client, place):
    # Of all groups, at this node.
    assert client.call("SAVE") == "OK"


def unlink_list(client, place):
    assert client.call("UNLINK", place.key("list")) == 1


def del_list(client, place):
    assert client.call("DEL", place.key("list")) == 1


def flush_list(client, place):
    assert client.call("FLUSHALL") == "OK"


def set_pipeline(client, place):
    data = b"".join(encode("SET", place.key(number), number) for number in range(PIPELINE))
    yield
    client.exchange(data, PIPELINE * len("+OK\r\n"))


def get_pipeline(client, place):
    data = encode("GET", place.key("none")) * PIPELINE
    yield
    client.exchange(data, PIPELINE * len("$-1\r\n"))


def open_idle(client, place):
    host, port = place.addr.rsplit(":", 1)
    client.idle = [socket.create_connection((host, int(port)), timeout=LIMIT_S) for _ in range(IDLE)]
    # The last one is served.
    client.idle[-1].sendall(b"PING\r\n")
    assert client.idle[-1].recv(100) == b"+PONG\r\n"


def close_idle(client, place):
    for connection in client.idle:
        connection.close()
    client.idle = []

    def are_gone():
        return int(re.search(rb"connected_clients:(\d+)", client.call("INFO", "clients"))[1]) < IDLE // 2

    wait_until("the clients gone", are_gone, LIMIT_S)


THINGS = [
    ("SET of 64 MB", set_value),
    ("GET of 64 MB", get_value),
    ("DEL of 64 MB", del_value),
    ("pipeline of 100,000 SETs", set_pipeline),
    ("pipeline of 100,000 GETs", get_pipeline),
    ("10,000 connections opened", open_idle),
    ("10,000 connections closed", close_idle),
    ("RPUSH to 10,000,000 elements", push_list),
    ("LRANGE of 100,000", range_list),
    ("SAVE with the list", save),
    ("UNLINK of the list", unlink_list),
    ("RPUSH again", push_list),
    ("DEL of the list", del_list),
    ("RPUSH once more", push_list),
    ("FLUSHALL with the list", flush_list),
]


def high_water(cluster):
    """{node: the most memory that it has had since the last call}, in bytes."""
    marks = {}
    for node in cluster.nodes:
        status = Path(f"/proc/{node.process.pid}/status").read_text()
        marks[node.client_addr] = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024
        Path(f"/proc/{node.process.pid}/clear_refs").write_text("5")
    return marks


def run_one(thing, client, place):
    """When it began and ended. What it makes ready first does not count."""
    made = thing(client, place) if inspect.isgeneratorfunction(thing) else None
    if made:
        next(made)
    began = time.time_ns()
    if made:
        assert next(made, None) is None
    else:
        thing(client, place)
    return began, time.time_ns()


def measure(groups, wanted, rounds):
    """Of each round and thing: when it was, when nothing was before it, the memory; and the probes' calls."""
    threads = max(1, os.cpu_count() // 3)
    spans = []
    with Cluster(groups=groups, threads=threads, maxclients=2 * IDLE) as cluster, tempfile.TemporaryDirectory() as scratch:
        place = Place(cluster)
        probes = Probes(place, scratch)
        with Client(place.addr, LIMIT_S) as client:
            client.idle = []
            for _ in range(rounds):
                for name, thing in THINGS:
                    if not wanted.search(name):
                        continue
                    time.sleep(SETTLE_S)
                    high_water(cluster)
                    before = time.time_ns()
                    time.sleep(QUIET_S)
                    began, ended = run_one(thing, client, place)
                    time.sleep(AFTER_S)
                    marks = high_water(cluster)
                    leader = marks.pop(place.addr)
                    spans.append(
                        {
                            "thing": name,
                            "quiet": (before, began),
                            "busy": (began, ended + int(AFTER_S * 1e9)),
                            "seconds": (ended - began) / 1e9,
                            "leader_bytes": leader,
                            "follower_bytes": max(marks.values()),
                        }
                    )
        return spans, probes.calls()


def seen(calls, span):
    """The longest and the p99.9 of the calls that were under way in the span, in milliseconds."""
    begin, end = span
    took = sorted(took for began, took in calls if began < end and began + took > begin)
    if not took:
        return None, None
    return took[-1] / 1e6, took[int((len(took) - 1) * 0.999)] / 1e6


def rows_of(groups, spans, calls):
    """For each thing and probe: medians over the rounds."""
    rows = []
    for name in dict.fromkeys(span["thing"] for span in spans):
        ones = [span for span in spans if span["thing"] == name]
        row = {"groups": groups, "thing": name, "rounds": len(ones), "probes": {}}
        for figure in ("seconds", "leader_bytes", "follower_bytes"):
            row[figure] = statistics.median(span[figure] for span in ones)
        for probe, its_calls in calls.items():
            busy = [seen(its_calls, span["busy"]) for span in ones]
            quiet = [seen(its_calls, span["quiet"]) for span in ones]
            row["probes"][probe] = {
                "max": statistics.median(longest for longest, _ in busy),
                "p999": statistics.median(p999 for _, p999 in busy),
                "quiet_max": statistics.median(longest for longest, _ in quiet),
                "quiet_p999": statistics.median(p999 for _, p999 in quiet),
            }
        rows.append(row)
    return rows


def show(rows):
    print("| groups | what | took, s | probe | longest, ms | p99.9 | without it: longest | p99.9 | leader, MB | follower, MB |")
    print("|---|---|---:|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        for probe, saw in row["probes"].items():
            print(
                f"| {row['groups']} | {row['thing']} | {row['seconds']:.2f} | {probe} | {saw['max']:.1f} | {saw['p999']:.1f} "
                f"| {saw['quiet_max']:.1f} | {saw['quiet_p999']:.1f} "
                f"| {row['leader_bytes'] / 1e6:.0f} | {row['follower_bytes'] / 1e6:.0f} |"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--groups", default="1,3", help="with how many groups, one after the other")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), help="things whose names match")
    parser.add_argument("--out", type=Path, help="a file for all figures, as JSON")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows = []
    for groups in map(int, options.groups.split(",")):
        rows += rows_of(groups, *measure(groups, options.only, options.rounds))
    show(rows)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
