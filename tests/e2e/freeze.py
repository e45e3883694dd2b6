"""Makes the next fixture of `frozen.py`: a data directory with whatever this build can write, and what clients see of it.

    QUORIS_BIN=… ../.tools/venv/bin/python freeze.py

It is for a format, or for what an entry does, that has changed on purpose. The new fixture joins the older ones, which go on
being read. What is new is to be written here: a field of proto/ or a command that is in none of the files, and in none of
the lists of what is not, fails the making.

What older fixtures' JSON says stays as it is, but for `audit`: that digest is over the form of snapshots, and is taken out of
there when this form changes.
"""

import hashlib
import random
import re
import shlex
import sys
import time

from cluster import Cluster, wait_until
from disk import RECORDS, Messages, records, snapshots
from frozen import CALL_LIMIT_S, names, observe, pack, rest
from load import tag_for
from resp import Connection, ReplyError, encode, key_slot

# Group 0 is snapshotted after so many entries, once, and keeps some that lie before; group 1, which has fewer, never.
SNAPSHOT_ENTRIES, ENTRIES_BEHIND = 300, 100
SETTINGS = {
    "log_segment_bytes": "64kb",
    "snapshot_entries": SNAPSHOT_ENTRIES,
    "entries_behind_snapshot": ENTRIES_BEHIND,
    # A key each.
    "move_piece_bytes": 1,
    "enable_debug_command": "yes",
}
# So that few elements are many.
SMALL_FORMS = {
    "hash_max_listpack_entries": 4,
    "hash_max_listpack_value": 4,
    "set_max_intset_entries": 3,
    "zset_max_listpack_entries": 4,
    "zset_max_listpack_value": 4,
    "stream_node_max_entries": 5,
    "stream_node_max_bytes": 200,
}
# More of a slot than this is not moved by one write (`MOVE_BYTES`), so that there are several; each goes in parts.
BIG_BYTES, BIG_STRINGS = 1 << 20, 3
# Until the middle of the arrivals: the leave and the seal of the other slot, all parts of the first ones, and some of the next.
ENTRIES_BEFORE_ARRIVALS = 16
# Tags of slots, by what becomes of these; the first half of the slots is group 0's. The tests of all fixtures go by them, by the
# password and by the loaded script: they stay as they are.
STAYS_0, LATE_0, GOES_TO_1 = (tag_for(slot) for slot in (100, 101, 200))
STAYS_1, GOES_TO_0, COMES_BACK = (tag_for(slot) for slot in (8292, 8300, 8301))
PASSWORD = "correct-horse-battery-staple"
LOADED = "return redis.call('INCR', KEYS[1])"
TAGS = (STAYS_0, LATE_0, GOES_TO_1, STAYS_1, GOES_TO_0, COMES_BACK)
YEAR_2100_MS = 4_102_444_800_000

FAMILIES = """
SET @string hello
APPEND @string " world"
SETRANGE @string 6 W
SET @number 41
INCR @number
INCRBY @number 10
DECR @number
DECRBY @number 2
SET @number 50 GET
SET @float 10.5
INCRBYFLOAT @float 0.1
SETNX @once first
SETNX @once second
MSET @m1 a @m2 b
MSETNX @m2 x @m3 y
MSETNX @m3 c @m4 d
GETSET @m1 e
SET @gone x
GETDEL @gone
GETEX @m2 PXAT 4102444800000
SETEX @far 2000000000 v
PSETEX @farther 2000000000000 v
SET @kept v PXAT 4102444800123
SET @kept w KEEPTTL
SET @absent x XX
SET @due v PX 1
!INCR @string
!LPUSH @string x

SETBIT @bits 7 1
SETBIT @bits 100 1
BITFIELD @bits SET u8 16 200 INCRBY i5 40 7 OVERFLOW SAT INCRBY u2 60 3
BITOP AND @and @bits @string
BITOP OR @or @bits @string
BITOP XOR @xor @bits @string
BITOP NOT @not @bits
PFADD @hll a b c d e f g
PFADD @dense 1 2 3 4 5 6 7 8 9 10 11 12
PFDEBUG TODENSE @dense
PFADD @dense more
PFMERGE @merged @hll @dense

HSET @hash a 1 b 2 c 3 d x e 5 f 6 g 7 h 8
HMSET @hash i 9 j 10
HSETNX @hash a 2
HINCRBY @hash a 41
HINCRBYFLOAT @hash b 0.5
HDEL @hash c
HPEXPIREAT @hash 4102444800000 FIELDS 2 a b
HEXPIREAT @hash 4102444801 FIELDS 1 d
HEXPIRE @hash 2000000000 FIELDS 1 e
HPEXPIRE @hash 2000000000000 FIELDS 1 f
HPERSIST @hash FIELDS 1 f
HPEXPIRE @hash 1 FIELDS 1 g
HGETEX @hash PXAT 4102444800001 FIELDS 1 h
HGETDEL @hash FIELDS 1 i
HSETEX @hash PXAT 4102444800002 FIELDS 2 k 11 l 12

RPUSH @list a b c d e f g h
LPUSH @list z
LPUSHX @list y
RPUSHX @list i
LINSERT @list BEFORE c between
LSET @list 1 Z
LREM @list 1 d
LTRIM @list 0 8
LPOP @list
RPOP @list 2
LMOVE @list @other LEFT RIGHT
RPOPLPUSH @list @other
BRPOPLPUSH @list @other 1
BLMOVE @other @list RIGHT LEFT 1
RPUSH @popped 1 2 3 4 5 6
LMPOP 1 @popped LEFT COUNT 2
BLMPOP 1 1 @popped RIGHT
BLPOP @popped 1
BRPOP @popped 1
RPUSH @unsorted 3 1 2
SORT @unsorted DESC STORE @sorted

SADD @set a b c d e f g h i j
SADD @ints 5 3 1 4 2
SREM @set a
SPOP @set
SPOP @ints 2
SADD @set2 b c x
SMOVE @set2 @moved x
SDIFFSTORE @sdiff @set @set2
SINTERSTORE @sinter @set @set2
SUNIONSTORE @sunion @set @set2 @ints

ZADD @zset 1 a 2 b 2 bb 3 c 4 d 5 e 6 f 7 g 8 h 9 i
ZADD @zset GT CH 0.5 a 10 b
ZADD @zset NX INCR 1.5 new
ZADD @zset -inf least inf most
ZINCRBY @zset 0.25 c
ZREM @zset d
ZPOPMIN @zset
ZPOPMAX @zset
BZPOPMIN @zset 1
BZPOPMAX @zset 1
ZADD @zset2 1 b 2 c 3 e 4 x 5 y
ZMPOP 1 @zset2 MAX
BZMPOP 1 1 @zset2 MIN
ZDIFFSTORE @zdiff 2 @zset @zset2
ZINTERSTORE @zinter 2 @zset @zset2 WEIGHTS 2 0.5 AGGREGATE MAX
ZUNIONSTORE @zunion 2 @zset @set
ZRANGESTORE @zrange @zset 2 7 BYSCORE LIMIT 0 3
ZADD @lex 0 a 0 b 0 c 0 d 0 e
ZREMRANGEBYLEX @lex [b (d
ZREMRANGEBYRANK @zunion 0 1
ZREMRANGEBYSCORE @zunion 1 1
GEOADD @geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania 2.349014 48.864716 Paris
GEOSEARCHSTORE @near @geo FROMMEMBER Palermo BYRADIUS 300 km
GEORADIUS @geo 15 37 200 km STORE @radius
GEORADIUSBYMEMBER @geo Palermo 300 km STOREDIST @distances

XADD @stream 1-1 n 1
XADD @stream 2-1 n 2 other x
XADD @stream 2-* n 3
XADD @stream 3-1 n 4
XADD @stream 4-1 n 5
XADD @stream 5-1 n 6
XADD @stream 6-1 n 7
XADD @stream NOMKSTREAM MAXLEN = 7 7-1 n 8
XGROUP CREATE @stream group 0
XGROUP CREATE @stream late $ ENTRIESREAD 3
XGROUP CREATE @stream none 0
XGROUP DESTROY @stream none
XGROUP CREATECONSUMER @stream group carl
XGROUP CREATECONSUMER @stream group dora
XGROUP DELCONSUMER @stream group dora
XGROUP SETID @stream late 5-1
XREADGROUP GROUP group alice COUNT 3 STREAMS @stream >
XREADGROUP GROUP group bob COUNT 2 STREAMS @stream >
XACK @stream group 2-1
XCLAIM @stream group carl 0 2-2 RETRYCOUNT 5
XAUTOCLAIM @stream group bob 0 0 COUNT 1
XDEL @stream 4-1
XTRIM @stream MINID 2-1
XADD @clocked * n 1
XSETID @stream 9-1 ENTRIESADDED 20 MAXDELETEDID 4-1
!XADD @stream 1-1 n 1

COPY @string @copy
RENAME @m1 @renamed
RENAMENX @m3 @m4
SET @deleted x
DEL @deleted @absent
SET @unlinked x
UNLINK @unlinked
SET @e1 v
EXPIRE @e1 2000000000
SET @e2 v
EXPIREAT @e2 4102444800
PEXPIRE @e2 1 GT
SET @e3 v
PEXPIRE @e3 2000000000000
SET @e4 v
PEXPIREAT @e4 4102444800000
SET @e5 v EX 100
PERSIST @e5
!MOVE @string 1
"""

# Each is given one key and an argument.
SCRIPTS = [
    "return redis.call('APPEND', KEYS[1], table.concat({math.random(1000), redis.call('TIME')[1], #ARGV}, ','))",
    "local t = {} for i = 1, 20 do t['k' .. i] = i end local s = '' for k in pairs(t) do s = s .. k end"
    " return redis.call('APPEND', KEYS[1], s .. cjson.encode({1, 'a', cjson.null}) .. bit.tohex(bit.bxor(5, 12)))",
    "return redis.call('APPEND', KEYS[1], cmsgpack.pack({1, 'x', 2.5}) .. struct.pack('>I2s', 7, 'y'))",
    "!redis.call('APPEND', KEYS[1], 'kept') return redis.call('LPUSH', KEYS[1], 'x')",
    "!#!lua flags=atomic\nredis.call('APPEND', KEYS[1], 'undone') error('no')",
    "redis.call('PUBLISH', 'news', KEYS[1]) return {1, 2.9, 'x', false, {ok = 'fine'}}",
    "redis.setresp(3) redis.call('HSET', KEYS[1] .. ':3', 'f', 'v') return redis.call('HGETALL', KEYS[1] .. ':3')",
]
# Known to be short when they come to be endless, they are ended by their budgets in the log, and undone.
ENDLESS = [
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('APPEND', KEYS[1], 'undone') while true do end end",
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('APPEND', KEYS[1], 'undone')"
    " local t = {} for i = 1, 20 do t[i] = string.rep(tostring(i % 10), 1000000) end end",
]
LIBRARY = """#!lua name=frozen
redis.register_function{function_name = 'bump', description = 'Counts.',
    callback = function(keys, args) return redis.call('HINCRBY', keys[1], args[1], 1) end}
redis.register_function{function_name = 'peek', flags = {'no-writes'},
    callback = function(keys) return redis.call('HGETALL', keys[1]) end}
"""
SHORT_LIVED = "#!lua name=shortlived\nredis.register_function('away', function() return 1 end)"
QUESTIONS = """
PFCOUNT @hll
PFCOUNT @dense
PFCOUNT @merged
BITCOUNT @bits
GEOSEARCH @geo FROMLONLAT 15 37 BYRADIUS 300 km ASC WITHDIST
ZRANGE @zset (2 +inf BYSCORE WITHSCORES
XPENDING @stream group
XINFO GROUPS @stream
HPTTL @hash FIELDS 1 g
EXISTS @due @gone @absent @deleted
FCALL_RO peek 1 @called
EVAL_RO "return redis.call('GET', KEYS[1])" 1 @string
"""

# Fields of proto/ that the files of a lone node that is well do not hold.
NOT_WRITTEN = {
    ("Topology", "removed"),
    # 0, so far.
    ("Entry", "version"),
    *(("Identity", field) for field in ("distrusted", "set_aside", "rejoin", "topology", "dismissed")),
    *(("Distrusted", field) for field in ("group", "index", "ours", "theirs")),
}
# Records that its log does not hold.
NOT_RECORDED = {"truncate", "clear", "reset"}
# Commands that write and stand in no entry: the one is refused before, the other becomes DEL.
NOT_CALLED = {"swapdb", "migrate"}


class Writer:
    """A client whose calls must be answered as is expected: by an error, or not."""

    def __init__(self, node):
        self.connection = Connection(node.client_addr, CALL_LIMIT_S)

    def __call__(self, *words, fails=False):
        self.connection.send(*words)
        return self.answer(words, fails)

    def answer(self, words, fails):
        try:
            reply = self.connection.read_reply()
        except ReplyError as error:
            assert fails, f"{words}: {error}"
            return error
        assert not fails, f"{words}: {reply}"
        return reply

    def set(self, **settings):
        self("CONFIG", "SET", *(word for name, value in settings.items() for word in (name.replace("_", "-"), value)))


class Lenient(Writer):
    """One that takes any answer."""

    def answer(self, words, fails):
        try:
            return self.connection.read_reply()
        except ReplyError as error:
            return error


class Pipeline(Writer):
    """One that sends all calls together, so that they share entries."""

    def __init__(self, node):
        super().__init__(node)
        self.calls = []

    def __call__(self, *words, fails=False):
        self.calls.append((words, fails))

    def run(self):
        self.connection.send_raw(b"".join(encode(*words) for words, _ in self.calls))
        for words, fails in self.calls:
            self.answer(words, fails)


def keyed(text, tag):
    """The lines of such a text, as words."""
    for line in filter(None, text.splitlines()):
        yield [f"{{{tag}}}:{word[1:]}" if word[0] == "@" else word for word in shlex.split(line)]


def write_families(write, tag):
    """Keys of every type, family and form, and scripts."""
    for first, *words in keyed(FAMILIES, tag):
        write(first.removeprefix("!"), *words, fails=first[0] == "!")
    key, drawn = f"{{{tag}}}:".__add__, random.Random(tag)
    write("RPUSH", key("long-list"), *(f"element-{n}" for n in range(400)))
    write("SADD", key("large-set"), *(f"member-{n}" for n in range(200)))
    write("SADD", key("large-ints"), *drawn.sample(range(10**6), 100))
    write("ZADD", key("large-zset"), *(word for n in range(200) for word in (drawn.randrange(100) / 4, f"member-{n}")))
    write("HSET", key("large-hash"), *(word for n in range(200) for word in (f"field-{n}", n)))
    write("HPEXPIREAT", key("large-hash"), YEAR_2100_MS + 5, "FIELDS", 3, "field-1", "field-50", "field-150")
    write("SET", key("long-string"), bytes(range(256)) * 20)
    write("SET", key("restored"), "v")
    for n in range(1, 13):
        write("XADD", key("long-stream"), f"{n}-0", "n", n, "text", "x" * n)
    for script in SCRIPTS:
        write("EVAL", script.removeprefix("!"), 1, key("scripted"), "argument", fails=script[0] == "!")
    for number, script in enumerate(ENDLESS):
        write("EVAL", script, 1, key(f"endless-{number}"))
        write("SET", key(f"endless-{number}"), "v")
        write("EVAL", script, 1, key(f"endless-{number}"), fails=True)
    write("EVALSHA", sha_of(LOADED), 1, key("number"))
    write("FCALL", "bump", 1, key("called"), "times")


def sha_of(script):
    return hashlib.sha1(script.encode()).hexdigest()


def write_for_both(node, write):
    """What both groups are told of, and the users; who is blocked in either of them, which lasts as long as they are kept."""
    for words in (["FLUSHALL"], ["FLUSHDB"], ["SCRIPT", "FLUSH"], ["FUNCTION", "FLUSH"]):
        write(*words)
    write("SCRIPT", "LOAD", LOADED)
    write("FUNCTION", "LOAD", SHORT_LIVED)
    dump = write("FUNCTION", "DUMP")
    write("FUNCTION", "DELETE", "shortlived")
    write("FUNCTION", "RESTORE", dump)
    write("FUNCTION", "DELETE", "shortlived")
    write("FUNCTION", "LOAD", LIBRARY)
    for rules in (
        ["ann", "on", f">{PASSWORD}", f"~{{{STAYS_1}}}:a*", "%R~*", "&news", "+@all", "-@dangerous"],
        ["bob", "on", "nopass", "+@read", "(~b:* +set)"],
        ["carl", "off"],
    ):
        write("ACL", "SETUSER", *rules)
    waiting = []
    for tag in (STAYS_0, STAYS_1):
        write("XGROUP", "CREATE", f"{{{tag}}}:waited", "group", "$", "MKSTREAM")
        for words in ("BLPOP @never @neither 0", "XREADGROUP GROUP group eve BLOCK 0 STREAMS @waited >"):
            waiting.append(Writer(node))
            waiting[-1].connection.send(*next(keyed(words, tag)))
    wait_until("calls that wait", lambda: blocked(write) == len(waiting))
    write.set(script_instructions=2_000_000, script_memory="4mb")
    return waiting


def blocked(write):
    return int(re.search(rb"blocked_clients:(\d+)", write("INFO", "clients"))[1])


def write_rarities(node, write, tag):
    """What entries hold besides calls."""
    key = f"{{{tag}}}:".__add__
    # Evictions, and scripts while there is no room, and while there are too few replicas.
    write("SET", key("victim"), "v")
    write.set(maxmemory_policy="allkeys-random", maxmemory=1)
    write("SET", key("no-room"), "v", fails=True)
    wait_until("the eviction", lambda: write("EXISTS", key("victim")) == 0)
    write.set(maxmemory_policy="noeviction")
    write("EVAL", "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], 'v')", 1, key("without-room"))
    write.set(maxmemory=0, min_replicas_to_write=1)
    write("EVAL", "return redis.pcall('SET', KEYS[1], 'v')", 1, key("alone"), fails=True)
    write.set(min_replicas_to_write=0)

    # A key that is due, and goes when it is read.
    write("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    write("SET", key("read-late"), "v", "PX", 1)
    time.sleep(0.01)
    assert write("GET", key("read-late")) is None
    write("DEBUG", "SET-ACTIVE-EXPIRE", 1)

    # A transaction, one that is refused, and one of a client that caches.
    write("WATCH", key("watched"))
    for words in (["MULTI"], ["INCR", key("watched")], ["RPUSH", key("besides"), "a"]):
        write(*words)
    assert write("EXEC") == [1, 1]
    write("WATCH", key("watched"))
    Writer(node)("INCR", key("watched"))
    write("MULTI")
    write("INCR", key("watched"))
    assert write("EXEC") is None
    caching = Writer(node)
    caching("CLIENT", "TRACKING", "ON", "NOLOOP", "REDIRECT", write("CLIENT", "ID"))
    for words in (["MULTI"], ["GET", key("watched")], ["SET", key("watched"), "w"]):
        caching(*words)
    assert caching("EXEC") == [b"2", "OK"]

    # A blocked call that is served, and one that waits no longer.
    served, already = Writer(node), blocked(write)
    served.connection.send("BLPOP", key("queue"), 0)
    wait_until("one more", lambda: blocked(write) > already)
    write("RPUSH", key("queue"), "x", "y")
    assert served.connection.read_reply() == [key("queue").encode(), b"x"]
    assert write("BLPOP", key("empty"), 0.01) is None

    # A value from elsewhere, and scripts of a user who may not do everything.
    dump = write("DUMP", key("queue"))
    write("RESTORE", key("restored"), YEAR_2100_MS, dump, "ABSTTL")
    write("RESTORE-ASKING", key("asked-for"), 0, dump)
    ann = Writer(node)
    ann("AUTH", "ann", PASSWORD)
    ann("EVAL", "return redis.call('SET', KEYS[1], 'by ann')", 1, key("ann"))
    ann("EVAL", "return redis.call('SET', ARGV[1], 'by ann')", 1, key("ann"), key("bob"), fails=True)


def row(node, group):
    return node.status()["groups"][group]


def move_through_a_snapshot(node, write):
    """Two slots change places, and group 0 is snapshotted meanwhile."""
    for tag in (GOES_TO_0, GOES_TO_1):
        for number in range(BIG_STRINGS):
            write("SET", f"{{{tag}}}:big-{number}", "x" * BIG_BYTES)
    while row(node, 0)["last_index"] < SNAPSHOT_ENTRIES - ENTRIES_BEFORE_ARRIVALS:
        write("INCR", f"{{{STAYS_0}}}:filler")
    assert row(node, 0)["snapshot_index"] == 0, "there is a snapshot already"
    movers = [Writer(node), Writer(node)]
    for mover, slot, to in zip(movers, (key_slot(GOES_TO_0), key_slot(GOES_TO_1)), (0, 1), strict=True):
        mover.connection.send("QUORIS", "MOVE", to, slot)
    for mover in movers:
        mover.connection.read_reply()
    wait_until("a snapshot", lambda: row(node, 0)["purged"] > 0)


def missing(directory):
    """Whatever could be in the files of a node and is not, where it would come to be read at its next start."""
    messages, found, kinds, called = Messages(), set(), set(), set()

    def walk(name, data):
        for place, content in messages.walk(name, data):
            found.add(place)
            if place == ("Batch", "calls"):
                (command, *words) = [arg for at, arg in messages.walk("Call", content) if at == ("Call", "args")]
                called.add(command.lower().decode())
                called.add(b"|".join([command, *words[:1]]).lower().decode(errors="replace"))

    begin = {}
    for group, index, meta, chunk in snapshots(directory):
        begin[group] = index
        walk("SnapshotMeta", meta)
        walk("MachineState", chunk[1:])
    for kind, group, index, payload in records(directory):
        kinds.add(kind)
        if kind == "entry" and index > begin.get(group, -1):
            walk("LogEntry", payload)
        elif kind == "vote":
            walk("Vote", payload)
    walk("Identity", (directory / "catalog").read_bytes()[4:])
    fields = messages.within(["LogEntry", "SnapshotMeta", "MachineState", "Vote", "Identity"])
    return (fields - found - NOT_WRITTEN) | (set(RECORDS.values()) - kinds - NOT_RECORDED), called


def commands_that_write(write):
    rows = [each for row in write("COMMAND") for each in [row, *row[9]]]
    return {row[0].decode() for row in rows if "write" in row[2]}


def main():
    name = f"data-{len(names()) + 1}"
    cluster = Cluster(nodes=1, groups=2, **SETTINGS)
    cluster.cluster_id = name
    (node,) = cluster.nodes
    with cluster:
        write = Writer(node)
        waiting = write_for_both(node, write)
        write_rarities(node, write, STAYS_1)
        for tag in (STAYS_0, STAYS_1):
            write_families(write, tag)
        write.set(**SMALL_FORMS)
        for tag in (GOES_TO_0, GOES_TO_1, COMES_BACK):
            pipeline = Pipeline(node)
            write_families(pipeline, tag)
            pipeline.run()
        move_through_a_snapshot(node, write)
        for to in (0, 1):
            write("QUORIS", "MOVE", to, key_slot(COMES_BACK))
        write_families(write, LATE_0)
        write("ACL", "SETUSER", "bob", "resetkeys", "~c:*")
        write("ACL", "DELUSER", "carl")
        rest(cluster, node)

        questions = [shlex.join(words) for tag in TAGS for words in keyed(QUESTIONS, tag)]
        questions += [f"CLUSTER COUNTKEYSINSLOT {key_slot(tag)}" for tag in TAGS]
        questions.append(f"SCRIPT EXISTS {sha_of(LOADED)} {sha_of(SCRIPTS[0])} {sha_of('return 1')}")
        before = node.status()
        seen = observe(node, questions)
        to_be_called = commands_that_write(write)
        assert node.status() == before, "looking on has changed something"
        assert blocked(write) == len(waiting), "who is blocked has not waited until the end"
        node.kill()
        fields, called = missing(node.data_dir)
        assert not fields, f"not in the files: {fields}"
        uncalled = to_be_called - called - NOT_CALLED
        assert not uncalled, f"in no entry: {uncalled}"
        pack(name, node.data_dir, seen)
        print(f"{name}: {len(seen['keys'])} keys, {len(to_be_called & called)} of {len(to_be_called)} commands that write")


if __name__ == "__main__":
    sys.exit(main())
