"""Data directories that a build has written once and every later one must read: where they are, and what is in them.

`fixtures/data-N.tar.xz` is the directory of a lone node, as kill -9 left it; `fixtures/data-N.json` is all that its clients saw.
"""

import hashlib
import io
import json
import shlex
import tarfile
from pathlib import Path

from cluster import wait_until
from resp import Connection

FIXTURES = Path(__file__).with_name("fixtures")
CALL_LIMIT_S = 20.0
# A longer reply is kept as its digest.
LONGEST_REPLY = 600

# What is asked for each type of key, and for every key.
READS = {
    "string": ["GET {}"],
    "hash": ["HGETALL {}"],
    "list": ["LRANGE {} 0 -1"],
    "set": ["SMEMBERS {}"],
    "zset": ["ZRANGE {} 0 -1 WITHSCORES"],
    "stream": ["XRANGE {} - +", "XINFO STREAM {} FULL COUNT 0"],
}
READS_OF_ALL = ["TYPE {}", "OBJECT ENCODING {}", "PEXPIRETIME {}"]
READS_OF_NODE = ["ACL LIST", "FUNCTION LIST WITHCODE", "DBSIZE"]


# --- fixtures ----------------------------------------------------------------------------------------------------


def names():
    """Of all that there are, oldest first."""
    return sorted((path.stem for path in FIXTURES.glob("*.json")), key=lambda name: int(name.rsplit("-")[-1]))


def expected(name):
    return json.loads((FIXTURES / f"{name}.json").read_text())


def unpack(name, directory):
    """Makes the data directory."""
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as packed:
        packed.extractall(directory, filter="data")


def pack(name, directory, seen):
    """Makes the fixture."""
    with tarfile.open(FIXTURES / f"{name}.tar.xz", "w:xz", preset=9) as packed:
        for path in sorted(directory.rglob("*")):
            about = tarfile.TarInfo(str(path.relative_to(directory)))
            if path.is_dir():
                about.type, about.mode = tarfile.DIRTYPE, 0o755
                packed.addfile(about)
            else:
                about.size = path.stat().st_size
                packed.addfile(about, io.BytesIO(path.read_bytes()))
    (FIXTURES / f"{name}.json").write_text(lines_of(seen) + "\n")


def lines_of(seen):
    """As JSON, with a line for each group, question and key."""
    parts = []
    for name, section in seen.items():
        if isinstance(section, dict):
            rows = ",\n".join(f"  {json.dumps(row)}: {json.dumps(value)}" for row, value in section.items())
            parts.append(f" {json.dumps(name)}: {{\n{rows}\n }}")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(section)}")
    return "{\n" + ",\n".join(parts) + "\n}"


# --- what clients see --------------------------------------------------------------------------------------------


def observe(node, questions):
    """All that is there: the groups, the users and libraries, each key, and the answers to `questions`. Changes nothing."""
    with Connection(node.client_addr, CALL_LIMIT_S) as connection:

        def ask(questions, key=None):
            # What may hold any byte is put in when the question has been taken apart.
            words = {text: [key if word == "{}" else word for word in shlex.split(text)] for text in questions}
            return {text: shown(connection.call(*words[text])) for text in questions}

        keys = {}
        for key in sorted(connection.call("KEYS", "*")):
            kind = connection.call("TYPE", key)
            keys[key.decode()] = ask(READS_OF_ALL + READS[kind], key)
            if kind == "hash":
                fields = connection.call("HKEYS", key)
                deadlines = connection.call("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
                keys[key.decode()]["HPEXPIRETIME"] = shown(deadlines)
        status = node.status()
        return {
            "cluster_id": status["cluster_id"],
            "groups": {str(group["id"]): seen_of(group) for group in status["groups"]},
            "node": ask(READS_OF_NODE),
            "questions": ask(questions),
            "keys": keys,
        }


def rest(cluster, node):
    """Until the log says of the whole state of each group what it is, and nothing is written any more."""
    code, said = cluster.ctl("verify", "--whole")
    assert code == 0, said

    def is_covered(group):
        return group["verified"] and group["verified"]["index"] >= group["audit"]["index"]

    wait_until("the last check", lambda: all(map(is_covered, node.status()["groups"])))


def seen_of(group):
    """What the status says and a restart leaves as it is. The last check's digest is over all that was applied before it, the
    audit's is that of the whole state, in the form of this build's snapshots."""
    return {what: group[what] for what in ("slots", "snapshot_index", "purged", "verified", "audit", "difference")}


def shown(reply):
    """A reply as JSON can have it, each byte as a character."""
    if isinstance(reply, list):
        whole = [shown(one) for one in reply]
    else:
        whole = reply.decode("latin-1") if isinstance(reply, bytes) else reply
    text = json.dumps(whole)
    if len(text) <= LONGEST_REPLY:
        return whole
    return f"{len(text)} characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()}"


def differences(expected, seen, where=()):
    """What was expected and is not seen, a line for each. What else is seen does not count: more may be asked by now."""
    if not isinstance(expected, dict) or not isinstance(seen, dict):
        return [] if expected == seen else [f"{' / '.join(where)}: {seen!r} instead of {expected!r}"]
    lines = []
    for name, value in expected.items():
        lines += differences(value, seen.get(name), (*where, name))
    return lines
