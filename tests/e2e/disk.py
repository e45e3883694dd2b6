"""What is in a node's files (docs/internals/disk-format.md), for tests that look into them or change them."""

import re
import struct
import zlib

from cluster import REPO

SEGMENT_HEADER, SECTOR, BATCH_HEADER, RECORD_HEADER = 512, 512, 40, 17
SNAPSHOT_HEADER, FRAME_HEADER = 32, 8
RECORDS = dict(enumerate(["entry", "truncate", "clear", "purge", "reset", "vote", "committed"], 1))


def batches(segment):
    """Where each batch of a segment's bytes begins, and how long its records are."""
    (salt,) = struct.unpack_from("<Q", segment, 32)
    at = SEGMENT_HEADER
    while at < len(segment) and segment[at : at + 4] == b"qBat":
        if batch_checksum(segment, at) != struct.unpack_from("<I", segment, at + 4)[0]:
            return  # of the file's former life
        (length,) = struct.unpack_from("<I", segment, at + 24)
        yield at, length
        at += -(-(BATCH_HEADER + length) // SECTOR) * SECTOR


def batch_checksum(segment, at):
    return zlib.crc32(segment[32:40] + segment[at + 8 : at + BATCH_HEADER])


def exchange(directory, old, new):
    """Puts `new` in the place of `old` in the log, with checksums as if it had been written so."""
    assert len(old) == len(new)
    found = 0
    for path in (directory / "log").glob("*.log"):
        segment = bytearray(path.read_bytes())
        for at, length in list(batches(segment)):
            records = slice(at + BATCH_HEADER, at + BATCH_HEADER + length)
            found += segment[records].count(old)
            segment[records] = segment[records].replace(old, new)
            struct.pack_into("<I", segment, at + 28, zlib.crc32(segment[records]))
            struct.pack_into("<I", segment, at + 4, batch_checksum(segment, at))
        path.write_bytes(segment)
    assert found == 1, f"{old!r} is in the log {found} times"


def records(directory):
    """The log's records: kind, group, index, payload."""
    for path in sorted((directory / "log").glob("*.log")):
        segment = path.read_bytes()
        for at, length in batches(segment):
            at += BATCH_HEADER
            end = at + length
            while at < end:
                kind, group, index, size = struct.unpack_from("<BIQI", segment, at)
                at += RECORD_HEADER
                yield RECORDS[kind], group, index, segment[at : at + size]
                at += size


def snapshots(directory):
    """Of each snapshot: its group, its index, its meta and its first chunk."""
    for path in (directory / "snapshots").glob("*.snap"):
        data = path.read_bytes()
        group, index, meta = struct.unpack_from("<IQI", data, 12)
        at = SNAPSHOT_HEADER + meta
        (length,) = struct.unpack_from("<I", data, at)
        yield group, index, data[SNAPSHOT_HEADER:at], data[at + FRAME_HEADER : at + FRAME_HEADER + length]


class Messages:
    """The messages of proto/, as far as it takes to tell which of their fields are there."""

    def __init__(self):
        self.fields = {}
        for path in (REPO / "proto").glob("*.proto"):
            for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", path.read_text(), re.M | re.S):
                rows = re.findall(r"^ +(?:repeated |optional )?(\w+) (\w+) = (\d+);", body, re.M)
                self.fields[name] = {int(number): (kind, field) for kind, field, number in rows}
        # Declared as bytes, for what carries it does not look into it.
        self.fields["LogEntry"][2] = ("Entry", "normal")

    def walk(self, name, data):
        """Each field that is there, as ("Message", "field"), and its bytes."""
        at = 0
        while at < len(data):
            key, at = varint(data, at)
            kind, field = self.fields[name][key >> 3]
            if key & 7 == 0:
                (_, end) = varint(data, at)
            elif key & 7 == 2:
                length, at = varint(data, at)
                end = at + length
            else:
                end = at + {1: 8, 5: 4}[key & 7]
            yield (name, field), data[at:end]
            if kind in self.fields and key & 7 == 2:
                yield from self.walk(kind, data[at:end])
            at = end

    def within(self, names):
        """All fields of the messages and of those in them."""
        seen, todo = set(), list(names)
        while todo:
            name = todo.pop()
            for kind, field in self.fields[name].values():
                if kind in self.fields and (name, field) not in seen:
                    todo.append(kind)
                seen.add((name, field))
        return seen


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, at
