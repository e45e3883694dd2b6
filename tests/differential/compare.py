"""When two replies are alike, and which differences are meant.

Replies are compared exactly, types and error texts included. What Redis leaves open is not: the order of sets, maps and
scans, which elements a random choice takes, and how many milliseconds have passed.
"""

import os
import re
from collections import Counter
from typing import Callable, NamedTuple

from generate import COUNTED, FOUND
from wire import Typed

UNORDERED = {b"SMEMBERS", b"SUNION", b"SINTER", b"SDIFF", b"HKEYS", b"HVALS", b"KEYS"}
GEO_SEARCHES = {b"GEOSEARCH", b"GEORADIUS", b"GEORADIUS_RO", b"GEORADIUSBYMEMBER", b"GEORADIUSBYMEMBER_RO"}
SCANS = {b"SCAN": 1, b"SSCAN": 1, b"HSCAN": 2, b"ZSCAN": 2}
# Unit of the time in the reply, in milliseconds.
TIMES = {b"TTL": 1000, b"EXPIRETIME": 1000, b"PTTL": 1, b"PEXPIRETIME": 1}
# How far apart two servers may note the same moment.
APART_MS = 60_000
# Idle times are compared by their size alone.
IDLE_COARSE_MS = 100_000_000


class Deliberate(NamedTuple):
    """A difference that is meant: why, and which replies have it."""

    reason: str
    covers: Callable[[list, object, object], bool]


def is_error(reply):
    return isinstance(reply, Typed) and reply.mark == "-"


PLACE = re.compile(rb"user_script:\d+: |, on @user_script:\d+\.$")
SORT_DENIED = re.compile(rb"ERR (BY|GET) option of SORT denied in [Cc]luster mode\.")
REFUSALS = {b"CROSSSLOT", b"EXECABORT"}
STRING_ENCODINGS = {b"int", b"embstr", b"raw"}


def has_no_place(call, redis, quoris):
    return is_error(redis) and is_error(quoris) and PLACE.sub(b"", redis.content) == quoris.content


def sorts_by_keys(call, redis, quoris):
    return call[0].upper() in (b"SORT", b"SORT_RO") and bool(SORT_DENIED.search(text_of(redis)))


def newest_entry(call, redis, quoris):
    return call[0].upper() in (b"XREAD", b"XREADGROUP") and b"+" in call and b"Invalid stream ID" in text_of(redis)


def cut_at_nul(call, redis, quoris):
    theirs, mine = (text_of(reply).decode(errors="replace") for reply in (redis, quoris))
    same = len(os.path.commonprefix([theirs, mine]))
    return b"\0" in b" ".join(call) and same >= 4 and mine[same:].lstrip(" ").startswith("\0")


def is_text(call, redis, quoris):
    return is_error(redis) and is_error(quoris) and redis.content.decode(errors="replace").encode() == quoris.content


def string_encoding(call, redis, quoris):
    return call[0].upper() == b"OBJECT" and {redis, quoris} <= STRING_ENCODINGS


def refused_for_another(call, redis, quoris):
    numbers = b"scores can't be converted into double" in text_of(redis)
    return call[0].upper() in (b"SORT", b"SORT_RO") and numbers and not is_error(quoris)


def last_digit(call, redis, quoris):
    if FOUND not in call or not (isinstance(redis, list) and isinstance(quoris, list)):
        return False
    theirs, mine = leaves(redis), leaves(quoris)
    return len(theirs) == len(mine) and all(map(near, theirs, mine))


def near(one, other):
    try:
        return one == other or abs(float(one) - float(other)) <= 1e-14 * abs(float(one))
    except (TypeError, ValueError):
        return False


def more_behind(call, redis, quoris):
    return call[0].upper() == b"RESTORE" and b"Bad data format" in text_of(quoris)


def no_cursor(call, redis, quoris):
    return call[0].upper() in SCANS and b"invalid cursor" in text_of(quoris) and any(word[:1] in (b"-", b"") for word in call[1:3])


def compact_difference(call, redis, quoris):
    return call[0].upper() == b"OBJECT" and (redis, quoris) == (b"hashtable", b"intset")


def keys_uncounted(call, redis, quoris):
    return text_of(redis).startswith(b"CROSSSLOT") and is_error(quoris) and call[0].upper() in COUNTED


def alike_until_nul(call, redis, quoris):
    if not (isinstance(redis, list) and isinstance(quoris, list) and b"ALPHA" in map(bytes.upper, call)):
        return False
    theirs, mine = ([item and item.split(b"\0")[0] for item in reply] for reply in (redis, quoris))
    return theirs == mine


def endless_timeout(call, redis, quoris):
    return b"timeout is negative" in text_of(redis) and b"timeout is out of range" in text_of(quoris)


def text_of(reply):
    """The error's text, also of one that a script has made a string of."""
    content = reply.content if is_error(reply) else reply
    return content if isinstance(content, bytes) else b""


DELIBERATE = [
    Deliberate("`return redis.call(...)` is a tail call in Lua: the error does not say in which line it was", has_no_place),
    Deliberate("SORT takes patterns for BY and GET in a cluster too, if their keys are in the key's slot", sorts_by_keys),
    Deliberate("An error is text: bytes that are no UTF-8 in what a script raises are replaced", is_text),
    Deliberate("A string's encoding follows from what it holds, not from which command wrote it", string_encoding),
    Deliberate("Redis's SORT may refuse numbers because an earlier one was out of range (a stale errno)", refused_for_another),
    Deliberate("Distances are computed with libm, alike on every machine: their last digit may be another", last_digit),
    Deliberate("RESTORE takes no payload with bytes behind the value", more_behind),
    Deliberate("A cursor is a number, and never negative", no_cursor),
    Deliberate("SDIFFSTORE's result is as compact as its members allow; Redis's is not always", compact_difference),
    Deliberate("XREAD takes + for the newest entry, as Redis 7.4 does", newest_entry),
    Deliberate("Redis's error texts end where a name in them has a NUL byte; quoris's do not", cut_at_nul),
    Deliberate("SORT ALPHA compares up to a NUL byte: of a set's elements that are alike up to there, either comes first", alike_until_nul),
    Deliberate("A count of keys that is no number, or a wrong one, is refused before keys are looked for", keys_uncounted),
    Deliberate("An endless timeout is told to be out of range, as Redis 7.2 does, not negative", endless_timeout),
]


def alike(call, redis, quoris):
    """Whether the replies to `call` are alike, or differ in a way that is meant."""
    if redis == quoris:
        return True
    if call[0].upper() == b"EVAL" and len(call) > 4:
        return alike_scripts(call, redis, quoris)
    name = call[0].upper()
    if name in TIMES and isinstance(redis, int) and isinstance(quoris, int):
        return (redis < 0) == (quoris < 0) and abs(redis - quoris) * TIMES[name] < APART_MS
    if normal(call, redis) == normal(call, quoris):
        return True
    return any(deliberate.covers(call, redis, quoris) for deliberate in DELIBERATE)


def alike_scripts(call, redis, quoris):
    """A script that runs one command answers as that command does; one returns it inside a table."""
    inner = call[4:]
    if call[1].endswith(b"{nil, 1}}") and isinstance(redis, list) and isinstance(quoris, list):
        return redis[1:] == quoris[1:] and alike_scripts([b"EVAL", b"", b"", b"", *inner], redis[0], quoris[0])
    if inner[0].upper() == b"XINFO" and not is_error(redis):
        # Lua's tables have no order.
        return Counter(map(repr, leaves(without_times(redis)))) == Counter(map(repr, leaves(without_times(quoris))))
    if inner[0].upper() in (b"XREAD", b"XREADGROUP") and b"setresp(3)" in call[1]:
        # The same of the table that stands for the map of several streams.
        if isinstance(redis, list) and isinstance(quoris, list) and groups(redis, 2) == groups(quoris, 2):
            return True
    return alike(inner, redis, quoris)


def leaves(reply):
    content = reply.content if isinstance(reply, Typed) else reply
    return [leaf for item in content for leaf in leaves(item)] if isinstance(content, list) else [content]


def normal(call, reply):
    """The reply without what Redis leaves open."""
    name = call[0].upper()
    if is_error(reply):
        return reply
    if isinstance(reply, Typed) and reply.mark in "~%":
        size = 2 if reply.mark == "%" else 1
        return Typed(reply.mark, groups(normal_times(name, call, reply.content), size))
    if name == b"GET" and isinstance(reply, bytes) and reply.startswith(b"HYLL"):
        # The last count, which Redis keeps there and quoris does not (docs/status.md).
        return reply[:8] + reply[16:]
    if not isinstance(reply, list):
        return reply
    if name in UNORDERED or (name in GEO_SEARCHES and not ordered_geo(call)):
        return groups(reply, 1)
    if name == b"HGETALL":
        return groups(reply, 2)
    if name in SCANS and len(reply) == 2 and isinstance(reply[1], list):
        # What a cursor means is each server's own affair, and how much a step of many answers.
        whole = call[1 if name == b"SCAN" else 2] == b"0" and b"5000" in call
        return [reply[0], groups(reply[1], SCANS[name])] if whole else "a step of a scan"
    if name in (b"SORT", b"SORT_RO") and b"nosort" in call:
        return groups(reply, 1) if b"LIMIT" not in call else len(reply)
    return normal_times(name, call, reply)


def ordered_geo(call):
    words = {word.upper() for word in call}
    return bool(words & {b"ASC", b"DESC", b"COUNT"})


def normal_times(name, call, reply):
    if name == b"XPENDING" and reply and isinstance(reply[0], list) and len(reply[0]) == 4:
        return [[entry[0], entry[1], round(entry[2] / IDLE_COARSE_MS), entry[3]] for entry in reply]
    if name == b"XINFO":
        return without_times(reply)
    return reply


def without_times(reply):
    """XINFO's reply without the moments in it, whichever protocol it came in."""
    if isinstance(reply, Typed):
        return Typed(reply.mark, without_times(reply.content))
    if not isinstance(reply, list):
        return reply
    result = []
    before = None
    for item in reply:
        # How many nodes a tree has is each server's own affair, too.
        if before in (b"idle", b"seen-time", b"radix-tree-nodes"):
            item = 0
        elif before in (b"pending", b"pel") and isinstance(item, list):
            # [id, consumer, time, count] of a group, [id, time, count] of a consumer.
            item = [[*entry[:-2], 0, entry[-1]] for entry in item]
        else:
            item = without_times(item)
        result.append(item)
        before = item
    return result


def groups(items, size):
    """The multiset of the consecutive groups of `size` in `items`."""
    return Counter(repr(items[at : at + size]) for at in range(0, len(items), size))


def is_drawn_from(everything, call, redis, quoris):
    """Whether a random choice is one: as many elements as Redis's, all of them there, none twice where that counts."""
    if redis == quoris or is_error(redis) or is_error(everything) or not isinstance(quoris, (list, Typed, bytes)):
        return redis == quoris
    with_values = call[-1].upper() in (b"WITHVALUES", b"WITHSCORES")
    name = call[0].upper()
    items = list(everything.content if isinstance(everything, Typed) else everything)
    flat = []
    for item in items:
        flat.extend(item if isinstance(item, list) else [item])
    width = 1 if name in (b"SRANDMEMBER", b"SPOP") else 2
    pool = [tuple(flat[at : at + width]) for at in range(0, len(flat), width)]
    if not with_values:
        pool = [group[:1] for group in pool]
    pool = Counter(map(repr, pool))
    mine, theirs = chosen(quoris, with_values), chosen(redis, with_values)
    if len(mine) != len(theirs) or type(quoris) is not type(redis):
        return False
    if isinstance(quoris, Typed) and quoris.mark != redis.mark:
        return False
    met = Counter(map(repr, mine))
    repeats = len(call) > 2 and call[2].startswith(b"-")
    return all(one in pool and (repeats or times <= pool[one]) for one, times in met.items())


def chosen(reply, with_values):
    content = reply.content if isinstance(reply, Typed) else reply
    if not isinstance(content, list):
        return [(content,)]
    if content and isinstance(content[0], list):
        return [tuple(pair) for pair in content]
    width = 2 if with_values else 1
    return [tuple(content[at : at + width]) for at in range(0, len(content), width)]


def first_difference(step, redis, quoris):
    """The number of the call in `step` whose replies are not alike, or `None`."""
    if step.kind == "random":
        if not alike(step.calls[0], redis[0], quoris[0]):
            return 0
        if not is_drawn_from(quoris[0], step.calls[1], redis[1], quoris[1]):
            return 1
        return None
    for number, call in enumerate(step.calls):
        if step.kind == "multi" and number == len(step.calls) - 1:
            if not alike_transactions(step.calls[1:-1], redis, quoris):
                return number
        elif not alike(call, redis[number], quoris[number]):
            return number
    return None


def alike_transactions(calls, redis, quoris):
    mine, theirs = quoris[-1], redis[-1]
    if is_error(mine) and is_error(theirs):
        # Of several reasons to run nothing, either may be told.
        return mine.content.split()[0] in REFUSALS and theirs.content.split()[0] in REFUSALS
    if not isinstance(mine, list) or not isinstance(theirs, list):
        return mine == theirs
    return len(mine) == len(theirs) and all(map(alike, calls, theirs, mine))
