"""Faults that come from below: a library preloaded into a node, with a directory of switches that turn them on."""

import struct
import subprocess
from pathlib import Path

SOURCES = Path(__file__).with_name("faults")


def build(name, directory):
    """The library made of `faults/NAME.c`."""
    library = Path(directory) / f"{name}.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCES / f"{name}.c", "-ldl"], check=True)
    return library


class Switches:
    """One node's faults; each is a file in its directory, read by the library at every call."""

    def __init__(self, directory):
        self.directory = Path(directory)

    def environment(self, library):
        self.directory.mkdir(parents=True, exist_ok=True)
        self.clock(0.0)
        return {"LD_PRELOAD": str(library), "FAULTS": str(self.directory)}

    def fsync_fails(self):
        self._set("fsync-fails")

    def fsync_takes(self, delay_ms):
        self._set("fsync-delay", str(delay_ms))

    def disk_is_full(self):
        self._set("disk-full")

    def clock(self, offset_s):
        """The node's wall clock is off by so much from now on; outlives `clear`."""
        path = self.directory / "clock"
        # In place, for the node has it mapped.
        with open(path, "r+b" if path.exists() else "wb") as file:
            file.write(struct.pack("<q", int(offset_s * 1e9)))

    def clear(self):
        for name in ("fsync-fails", "fsync-delay", "disk-full"):
            (self.directory / name).unlink(missing_ok=True)

    def _set(self, name, content=""):
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / name).write_text(content)
