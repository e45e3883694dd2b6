"""The network between the nodes of a run: a proxy in front of each node, which delays, stalls and cuts.

It needs no privileges. Each node tells the others two addresses that belong to the proxy; whose connection arrives
there is found by the process that owns the other end of it. So traffic can be cut between any two
nodes, in either direction. A cut is silence: connections stay open, bytes wait, new connections come to nothing, as
with dropped packets. What waited is delivered when the cut is healed, as TCP would.

The proxy runs as a process of its own (`python wire.py`), told what to do by lines of JSON.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading

CHUNK_BYTES = 1 << 16
RETRANSMISSION_S = 0.2
# Of the kernel's sock_diag.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, ANY_STATE = 4, 20, 1, 0xFFFFFFFF
NO_COOKIE = struct.pack("=III", 0, ANY_STATE, ANY_STATE)
# Behind the message's head, 4 bytes, the socket's addresses, and 4 numbers.
INODE_OFFSET = 16 + 4 + 48 + 16


class Wire:
    """The proxy's process, from the run's side."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lock = threading.Lock()

    def _tell(self, **what):
        with self.lock:
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.process.stdin.flush()
            # The answer: from here on it holds.
            self.process.stdout.readline()

    def listen(self, node, at, to):
        """What arrives `at` goes to the node's own address `to`."""
        self._tell(do="listen", node=node, at=at, to=to)

    def owns(self, node, pid):
        """The node is now this process."""
        self._tell(do="owns", node=node, pid=pid)

    def cut(self, pairs):
        """Nothing passes from `a` to `b` for each pair (a, b); other cuts end."""
        self._tell(do="cut", pairs=sorted(pairs))

    def degrade(self, delay_ms=0, jitter_ms=0, loss=0.0):
        """Every chunk takes longer; a lost one is sent again, and holds up those behind it."""
        self._tell(do="degrade", delay_ms=delay_ms, jitter_ms=jitter_ms, loss=loss)

    def heal(self):
        self.cut([])
        self.degrade()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Proxy:
    """The proxy's process, from the inside."""

    def __init__(self):
        self.pids, self.cuts = {}, set()
        self.delay_s = self.jitter_s = self.loss = 0.0
        self.changed = asyncio.Event()
        self.servers = []

    async def obey(self, order):
        match order.pop("do"):
            case "listen":
                await self._listen(**order)
            case "owns":
                self.pids[order["node"]] = order["pid"]
            case "cut":
                self.cuts = {tuple(pair) for pair in order["pairs"]}
            case "degrade":
                self.delay_s, self.jitter_s = order["delay_ms"] / 1000, order["jitter_ms"] / 1000
                self.loss = order["loss"]
        self.changed.set()
        self.changed = asyncio.Event()

    async def _listen(self, node, at, to):
        host, port = at.rsplit(":", 1)
        server = await asyncio.start_server(lambda r, w: self._carry(node, to, r, w), host, int(port))
        self.servers.append(server)

    async def _open(self, source, target):
        """Until neither direction is cut."""
        while (source, target) in self.cuts or (target, source) in self.cuts:
            await self.changed.wait()

    async def _carry(self, target, to, reader, writer):
        """One connection, both ways."""
        source = self._source(writer)
        there = None
        try:
            await self._open(source, target)
            host, port = to.rsplit(":", 1)
            there_reader, there = await asyncio.open_connection(host, int(port))
            ways = [self._pump(reader, there, source, target), self._pump(there_reader, writer, target, source)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # The end of one way is the end of both, once what came before it has been handed over.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:
            pass
        finally:
            for end in (writer, there):
                if end:
                    end.close()

    async def _pump(self, reader, writer, source, target):
        queue = asyncio.Queue(maxsize=64)
        filling = asyncio.ensure_future(self._fill(reader, queue))
        try:
            while (item := await queue.get()) is not None:
                due, data = item
                await asyncio.sleep(max(0, due - asyncio.get_running_loop().time()))
                while (source, target) in self.cuts:
                    await self.changed.wait()
                writer.write(data)
                await writer.drain()
            while (source, target) in self.cuts:
                await self.changed.wait()
        except OSError:
            pass
        finally:
            filling.cancel()

    async def _fill(self, reader, queue):
        due = 0.0
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                arrives = asyncio.get_running_loop().time() + self.delay_s + random.uniform(0, self.jitter_s)
                while random.random() < self.loss:
                    arrives += RETRANSMISSION_S
                # In order: a late chunk holds up those behind it.
                due = max(due, arrives)
                await queue.put((due, data))
        await queue.put(None)

    def _source(self, writer):
        """The node whose process holds the other end of this connection; None for anybody else."""
        inode = socket_inode(writer.get_extra_info("peername"), writer.get_extra_info("sockname"))
        return next((node for node, pid in self.pids.items() if inode and holds(pid, inode)), None)


def socket_inode(local, remote):
    """The inode of the socket that is connected so, asked of the kernel (sock_diag(7)): reading all of /proc/net/tcp
    takes so long on a busy machine that the links would time out."""
    there = struct.pack(">HH", local[1], remote[1])
    there += socket.inet_aton(local[0]).ljust(16, b"\0") + socket.inet_aton(remote[0]).ljust(16, b"\0")
    wanted = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, ANY_STATE) + there + NO_COOKIE
    head = struct.pack("=IHHII", 16 + len(wanted), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(head + wanted)
        answer = kernel.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] != SOCK_DIAG_BY_FAMILY:
        return None
    return struct.unpack_from("=I", answer, INODE_OFFSET)[0]


def holds(pid, inode):
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) == f"socket:[{inode}]":
                    return True
    except OSError:
        pass
    return False


async def serve():
    proxy = Proxy()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await proxy.obey(json.loads(line))
        print("done", flush=True)
    # Connections are still open, and nobody is left to mind.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve())
