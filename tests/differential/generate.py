"""Random commands of all families, weighted towards the values at which implementations break.

A family is a list of templates, one command each. Words in capitals stand for themselves, words in small letters are
drawn by the `Words` method of that name. `?word` is there or not, `a|b` is one of both, `word+` is there one to
four times. A word's method may give several arguments.

A *step* is a list of calls that belong together, and what `compare` must know of them. Dropping any step leaves a
sequence that can be run, which is what makes failures small.
"""

from typing import NamedTuple

FAMILIES = {
    "string": """
        SET key value ?NX|XX ?GET ?expiry|KEEPTTL
        GET key | GETDEL key | GETSET key value | STRLEN key
        GETEX key ?expiry|PERSIST
        SETNX key value | SETEX key seconds value | PSETEX key milliseconds value
        APPEND key value | SETRANGE key offset value | GETRANGE key index index | SUBSTR key index index
        INCR key | DECR key | INCRBY key integer | DECRBY key integer | INCRBYFLOAT key float | INCRBYFLOAT key float
        MGET anykey+ | MSET key_value+ | MSETNX key_value+
        LCS key key ?LEN ?IDX ?min_match ?WITHMATCHLEN
        SET key number | SET key number | SET key value
    """,
    "bitmap": """
        SETBIT key bit_offset bit | GETBIT key bit_offset
        BITCOUNT key | BITCOUNT key index index ?BYTE|BIT
        BITPOS key bit | BITPOS key bit index | BITPOS key bit index index ?BYTE|BIT
        BITOP AND|OR|XOR key key+ | BITOP NOT key key
        BITFIELD key field_op+ | BITFIELD_RO key field_get+
        SET key value
    """,
    "hll": """
        PFADD ownkey member+ | PFADD ownkey | PFADD ownkey many_members | PFCOUNT hll+ | PFMERGE ownkey hll+ | PFMERGE ownkey
        STRLEN hll | DEL ownkey | COPY ownkey ownkey ?REPLACE
    """,
    "hash": """
        HSET key field_value+ | HSET key field_value+ | HMSET key field_value+ | HSETNX key field value
        HSET key many_fields
        HGET key field | HMGET key field+ | HDEL key field+ | HEXISTS key field | HSTRLEN key field
        HGETALL key | HKEYS key | HVALS key | HLEN key
        HINCRBY key field integer | HINCRBYFLOAT key field float | HSET key field number
        HSCAN key 0 COUNT 5000 ?match
    """,
    "list": """
        RPUSH key value+ | LPUSH key value+ | RPUSHX key value+ | LPUSHX key value+ | RPUSH key many_members
        LPOP key ?count | RPOP key ?count | LLEN key | LINDEX key index | LSET key index value
        LRANGE key index index | LTRIM key index index | LREM key index value | LINSERT key BEFORE|AFTER value value
        LPOS key value ?rank ?pos_count ?maxlen
        LMOVE key key LEFT|RIGHT LEFT|RIGHT | RPOPLPUSH key key
        LMPOP numkeys_keys LEFT|RIGHT ?pos_count
    """,
    "set": """
        SADD key member+ | SADD key member+ | SADD key integers | SADD key many_members | SREM key member+
        SCARD key | SISMEMBER key member | SMISMEMBER key member+ | SMEMBERS key | SMOVE key key member
        SUNION key+ | SINTER key+ | SDIFF key+ | SUNIONSTORE key key+ | SINTERSTORE key key+ | SDIFFSTORE key key+
        SINTERCARD numkeys_keys ?limit
        SSCAN key 0 COUNT 5000 ?match
    """,
    "zset": """
        ZADD key ?NX|XX ?GT|LT ?CH score_member+ | ZADD key score_member+ | ZADD key same_scores
        ZADD key ?NX|XX|GT|LT INCR score member | ZADD key many_scores
        ZINCRBY key float member | ZREM key member+ | ZCARD key | ZSCORE key member | ZMSCORE key member+
        ZRANK key member | ZREVRANK key member | ZCOUNT key score_bound score_bound
        ZRANGE key index index ?REV ?WITHSCORES | ZREVRANGE key index index ?WITHSCORES
        ZRANGE key score_bound score_bound BYSCORE ?REV ?range_limit ?WITHSCORES
        ZRANGEBYSCORE key score_bound score_bound ?WITHSCORES ?range_limit
        ZREVRANGEBYSCORE key score_bound score_bound ?WITHSCORES ?range_limit
        ZRANGESTORE key key index index ?BYSCORE ?REV ?range_limit
        ZRANGESTORE key key score_bound score_bound BYSCORE ?REV ?range_limit
        ZREMRANGEBYRANK key index index | ZREMRANGEBYSCORE key score_bound score_bound
        ZPOPMIN key ?count | ZPOPMAX key ?count | ZMPOP numkeys_keys MIN|MAX ?pos_count
        ZUNION numkeys_keys ?weights ?aggregate ?WITHSCORES | ZINTER numkeys_keys ?weights ?aggregate ?WITHSCORES
        ZDIFF numkeys_keys ?WITHSCORES | ZINTERCARD numkeys_keys ?limit
        ZUNIONSTORE key numkeys_keys ?weights ?aggregate | ZINTERSTORE key numkeys_keys ?weights ?aggregate
        ZDIFFSTORE key numkeys_keys
        ZSCAN key 0 COUNT 5000 ?match
    """,
    "geo": """
        GEOADD key ?NX|XX ?CH place+ | GEOADD key place+ | GEOPOS key place_name+ | GEOHASH key place_name+
        GEODIST key place_name place_name ?unit
        GEOSEARCH ownkey geo_from geo_by ?ASC|DESC ?geo_count ?WITHCOORD ?WITHDIST ?WITHHASH
        GEOSEARCHSTORE found ownkey geo_from geo_by ?ASC|DESC ?geo_count ?STOREDIST
        GEORADIUS ownkey lon_lat radius unit ?WITHCOORD ?WITHDIST ?WITHHASH ?geo_count ?ASC|DESC ?geo_store
        GEORADIUS_RO ownkey lon_lat radius unit ?WITHCOORD ?WITHDIST ?WITHHASH ?geo_count ?ASC|DESC
        GEORADIUSBYMEMBER ownkey place_name radius unit ?WITHDIST ?geo_count ?ASC|DESC ?geo_store
        GEORADIUSBYMEMBER_RO ownkey place_name radius unit ?WITHDIST ?geo_count ?ASC|DESC
        ZRANGE ownkey 0 -1 WITHSCORES | ZREM ownkey place_name
    """,
    "stream": """
        XADD key ?NOMKSTREAM ?trim new_id field_value+ | XADD key new_id field_value+ | XADD key new_id field_value
        XADD key small_id field_value | XADD key small_id field_value
        XLEN key | XRANGE key stream_id stream_id ?pos_count | XREVRANGE key stream_id stream_id ?pos_count
        XDEL key small_id+ | XTRIM key trim | XSETID key stream_id ?entries_added ?max_deleted
        XREAD ?pos_count STREAMS key stream_id | XREAD ?pos_count STREAMS key key stream_id stream_id
        XGROUP CREATE key group group_start ?MKSTREAM ?entries_read
        XGROUP CREATE key group group_start MKSTREAM
        XGROUP SETID key group group_start ?entries_read | XGROUP DESTROY key group
        XGROUP CREATECONSUMER key group consumer | XGROUP DELCONSUMER key group consumer
        XREADGROUP GROUP group consumer ?pos_count ?NOACK STREAMS key group_read
        XREADGROUP GROUP group consumer STREAMS key >
        XREADGROUP GROUP group consumer ?pos_count STREAMS key key group_read group_read
        XACK key group small_id+ | XPENDING key group
        XPENDING key group ?min_idle stream_id stream_id amount ?consumer
        XCLAIM key group consumer min_idle_ms small_id+ ?claim_option ?FORCE ?JUSTID
        XAUTOCLAIM key group consumer min_idle_ms stream_id ?pos_count ?JUSTID
        XINFO STREAM key ?FULL | XINFO STREAM key FULL ?pos_count | XINFO GROUPS key | XINFO CONSUMERS key group
    """,
    "lex": """
        ZADD ownkey same_scores | ZADD ownkey same_scores | ZREM ownkey member | ZRANGE ownkey 0 -1
        ZLEXCOUNT ownkey lex_bound lex_bound | ZREMRANGEBYLEX ownkey lex_bound lex_bound
        ZRANGE ownkey lex_bound lex_bound BYLEX ?REV ?range_limit ?WITHSCORES
        ZRANGEBYLEX ownkey lex_bound lex_bound ?range_limit | ZREVRANGEBYLEX ownkey lex_bound lex_bound ?range_limit
        ZRANGESTORE ownkey ownkey lex_bound lex_bound BYLEX ?REV ?range_limit
    """,
    "sort": """
        RPUSH ownkey word+ | SADD ownkey word+ | SADD ownkey integers | RPUSH ownkey number number number | DEL ownkey
        SORT ownkey ?nosort ?range_limit ?ASC|DESC ALPHA ?store | SORT ownkey ?range_limit ?ASC|DESC ?ALPHA
        SORT_RO ownkey ?sort_by ?range_limit ?sort_get ?ASC|DESC ?ALPHA
    """,
    "generic": """
        DEL anykey+ | UNLINK anykey | EXISTS anykey+ | TYPE anykey | TOUCH anykey+
        RENAME anykey anykey | RENAMENX anykey anykey | COPY anykey anykey ?REPLACE | COPY anykey anykey ?DB ?REPLACE
        EXPIRE anykey seconds ?expire_condition | PEXPIRE anykey milliseconds ?expire_condition
        EXPIREAT anykey at_seconds ?expire_condition | PEXPIREAT anykey at_ms ?expire_condition
        TTL anykey | PTTL anykey | EXPIRETIME anykey | PEXPIRETIME anykey | PERSIST anykey
        OBJECT ENCODING anykey | OBJECT FREQ anykey | OBJECT HELP | OBJECT NOSUCH anykey
        KEYS pattern | SCAN 0 COUNT 5000 ?match ?type
        RESTORE anykey ttl_ms word ?REPLACE ?ABSTTL
        MOVE anykey integer | SELECT 0 | ECHO value | PING ?value
    """,
}

# Commands that may block: only run where they do not wait, in transactions and scripts.
BLOCKING = """
    BLPOP key+ timeout | BRPOP key+ timeout | BLMOVE key key LEFT|RIGHT LEFT|RIGHT timeout | BRPOPLPUSH key key timeout
    BLMPOP timeout numkeys_keys LEFT|RIGHT ?pos_count | BZPOPMIN key+ timeout | BZPOPMAX key+ timeout
    BZMPOP timeout numkeys_keys MIN|MAX ?pos_count | XREAD BLOCK timeout STREAMS key stream_id
    XREADGROUP GROUP group consumer BLOCK timeout STREAMS key group_read
"""
BLOCKING_FAMILIES = ["list", "list", "list", "list", "list", "zset", "zset", "zset", "stream", "stream"]

# (command, reads all its members, arguments after the key): answered at random, so checked by property.
RANDOM = {
    "set": [("SRANDMEMBER", "SMEMBERS", ["?small"]), ("SPOP", "SMEMBERS", ["?positive"])],
    "hash": [("HRANDFIELD", "HGETALL", ["?small", "?WITHVALUES"])],
    "zset": [("ZRANDMEMBER", "ZRANGE", ["?small", "?WITHSCORES"])],
}

SCRIPTS = [
    b"return redis.call(unpack(ARGV))",
    b"return redis.pcall(unpack(ARGV))",
    b"local r = redis.pcall(unpack(ARGV)) if type(r) == 'table' and r.err then return 'E:' .. r.err end return r",
    b"redis.setresp(3) return redis.call(unpack(ARGV))",
    b"local r = redis.call(unpack(ARGV)) return {r, type(r), #ARGV, false, 3.99, {nil, 1}}",
]
COPY_SCRIPT = b"""local d = redis.call('DUMP', KEYS[1]) if not d then return 'none' end
return redis.call('RESTORE', KEYS[2], 0, d, 'REPLACE')"""
PURE_SCRIPTS = [
    b"return tostring(ARGV[1]) .. #ARGV[1]", b"return tonumber(ARGV[1])", b"return {ARGV[1], tonumber(ARGV[2])}",
    b"return cjson.encode({ARGV[1], tonumber(ARGV[2]) or 'x'})", b"return redis.sha1hex(ARGV[1])",
    b"return cmsgpack.unpack(cmsgpack.pack({ARGV[1], ARGV[2]}))", b"return redis.error_reply(ARGV[1])",
    b"return redis.status_reply('x' .. #ARGV[1])", b"return string.format('%q|%5s|%.3f', ARGV[1], 'a', 1.5)",
    b"return struct.pack('>I2h', 7, -3) .. ARGV[1]", b"return bit.tohex(tonumber(ARGV[1]) or 0)", b"error(ARGV[1])",
    b"return {ok = 'fine'}", b"return {err = 'MY error'}", b"return nosuch", b"return 1 +", b"return {1, 2, nil, 4}",
    b"return math.floor(tonumber(ARGV[1]) or 0.5)", b"local t = {3, 1, 2} table.sort(t) return t",
    b"return redis.call('NOSUCH', KEYS[1])", b"return redis.call('GET')", b"return redis.call('SET', 'other', 1)",
    b"return {double = 3.5}", b"redis.setresp(3) return {map = {a = 1}}", b"return tostring(1e15) .. tostring(0.1)",
    b"return string.rep(ARGV[1], 3):upper()", b"return #redis.call('KEYS', '*nothing*')", b"return true", b"return false",
    b"return string.gsub(ARGV[1], 'a', 'b')", b"return select(2, pcall(error, ARGV[1]))",
]

# Families whose keys no other family uses: "geo" because of places that are equally far any may be counted, "hll" because
# Redis keeps the last count in the value, "lex" because ranges of names mean nothing where scores differ, "sort" because
# Redis's SORT changes the encoding of sorted sets it reads.
APART = ("geo", "hll", "lex", "sort")
# Commands that are told how many keys they have.
COUNTED = {
    b"SINTERCARD", b"ZINTERCARD", b"ZUNION", b"ZINTER", b"ZDIFF", b"LMPOP", b"ZMPOP", b"BLMPOP", b"BZMPOP", b"ZUNIONSTORE",
    b"ZINTERSTORE", b"ZDIFFSTORE",
}
# Calls with time limits.
TIMED = {
    b"EXPIRE", b"GETEX", b"HEXPIRE", b"HPEXPIRE", b"PEXPIRE", b"PSETEX", b"RESTORE", b"SET", b"SETEX",
}
# Where geo searches store what they find.
FOUND = b"{t}found"
# These are no reads of one moment together with the rest of a transaction (docs/status.md).
OVER_ALL_KEYS = (b"SCAN", b"KEYS")


def depends_on_the_clock(call):
    """Whether a spoilt call may ask for an id of the moment, or set a time limit that runs out while the two servers are compared."""
    return is_soon_over(call) or call[0].upper() == b"XADD" and b"*" in call


def is_soon_over(call):
    return call[0].upper() in TIMED and any(word.isdigit() and 0 < int(word) < 10_000_000 for word in call[2:])


class Step(NamedTuple):
    """Calls that belong together. `kind`: 'plain', 'multi' (MULTI … EXEC), or 'random' (read all, then draw)."""

    kind: str
    calls: tuple


def parse(text):
    """The templates of one family, each a list of words."""
    return [template.split() for line in text.strip().splitlines() for template in split_templates(line)]


def split_templates(line):
    """A line's templates: ` | ` between spaces separates them, `|` inside a word does not."""
    return [part for part in line.strip().split(" | ") if part]


class Words:
    """Draws arguments for one family's commands."""

    def __init__(self, random):
        self.random = random
        self.deadlines = 0
        self.family = "string"
        self.keys = {family: [b"{t}%s%d" % (family.encode(), n) for n in range(4)] for family in FAMILIES}
        self.all_keys = [key for family, keys in self.keys.items() if family not in APART for key in keys]

    def pick(self, *choices):
        return self.random.choice(choices)

    def chance(self, of):
        return self.random.random() < of

    # Keys

    def key(self):
        if self.chance(0.93):
            return self.random.choice(self.keys[self.family])
        return self.anykey()

    def anykey(self):
        return b"elsewhere" if self.chance(0.003) else self.random.choice(self.all_keys)

    def ownkey(self):
        return self.random.choice(self.keys[self.family])

    def found(self):
        return FOUND

    def hll(self):
        return self.random.choice(self.keys["hll"] if self.chance(0.95) else self.all_keys)

    def numkeys_keys(self):
        keys = [self.key() for _ in range(self.random.randint(1, 3))]
        number = self.integer() if self.chance(0.05) else b"%d" % len(keys)
        return [number, *keys]

    def key_value(self):
        return [self.key(), self.value()]

    # Numbers

    def integer(self):
        return self.small() if self.chance(0.6) else self.edge_integer()

    def small(self):
        return b"%d" % self.random.randint(-6, 6)

    def positive(self):
        return b"%d" % self.random.randint(0, 8)

    def edge_integer(self):
        return self.pick(
            b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"-9223372036854775809",
            b"18446744073709551615", b"18446744073709551616", b"2147483647", b"2147483648", b"-2147483649",
            b"4294967296", b"9223372036854775806", b"-9223372036854775807", b"65536", b"32768", b"-129", b"255",
            b"1.5", b"abc", b"", b" 1", b"1 ", b"+1", b"01", b"-0", b"0x10", b"1e3", b"-", b"--1",
        )

    def float(self):
        return self.pick(
            b"1.5", b"-1.5", b"3", b"3.0", b"0.1", b"0.2", b"-0.1", b"1e3", b"0", b"-0", b"0.0001", b"100.25",
            b"3.14159265358979", b"%.17g" % self.random.uniform(-1e3, 1e3), b"%.6f" % self.random.uniform(-10, 10),
            b"%d" % self.random.randint(-100, 100),
            self.edge_float() if self.chance(0.7) else self.edge_integer(),
        )

    def edge_float(self):
        return self.pick(
            b"inf", b"-inf", b"+inf", b"nan", b"Infinity", b"1e308", b"-1e308", b"1e-300", b"5e-324", b"1e400", b"1e17",
            b"9007199254740993", b"9007199254740992", b"17179869184", b"1.7976931348623157e308", b"0x1p3", b".5", b"5.",
            b"1e", b"1e21", b"123456789012345678", b"0.30000000000000004", b"1e-7", b"99999999999999999999", b"e", b"1.5 ",
        )

    def number(self):
        return self.pick(self.integer(), self.float())

    def index(self):
        return self.integer() if self.chance(0.1) else b"%d" % self.random.randint(-9, 9)

    def offset(self):
        if self.chance(0.05):
            return self.pick(b"-1", b"4294967296", b"536870912", b"9223372036854775807", b"x", b"1.5")
        return b"%d" % self.pick(0, 1, 2, 5, 9, 30, 63, 64, 300)

    def bit_offset(self):
        if self.chance(0.05):
            return self.pick(b"-1", b"4294967296", b"9223372036854775807", b"x", b"1.5")
        return b"%d" % self.pick(0, 1, 7, 8, 15, 31, 63, 64, 100, 999)

    def bit(self):
        return self.pick(b"0", b"1") if self.chance(0.97) else self.pick(b"2", b"-1", b"x")

    def count(self):
        return self.integer() if self.chance(0.1) else self.positive()

    def amount(self):
        return self.integer() if self.chance(0.05) else b"%d" % self.random.randint(0, 10)

    # Strings

    def value(self):
        roll = self.random.random()
        if roll < 0.45:
            return self.member()
        if roll < 0.65:
            return self.number()
        if roll < 0.75:
            size = self.pick(0, 1, 3, 43, 44, 45, 63, 64, 65, 127, 128, 200)
            return self.random.choice(b"xyz\0").to_bytes(1, "big") * size
        if roll < 0.9:
            return bytes(self.random.choices(b"abc01\0\xff\r\n", k=self.random.randint(0, 12)))
        if roll < 0.98:
            return self.random.choice([b"hello world", b"ohmytext", b"mynewtext", b"\xc3\xa9t\xc3\xa9"])
        return b"v" * self.pick(1000, 4095, 5000, 9000)

    def member(self):
        roll = self.random.random()
        if roll < 0.55:
            return self.random.choice(b"abcdefghij").to_bytes(1, "big")
        if roll < 0.8:
            return b"%d" % self.random.randint(-3, 15)
        return self.pick(
            b"", b"\0", b"\xff\xfe", b"a\r\nb", b"long" * 16, b"long" * 17, b"9223372036854775807", b"01", b"1.0", b"-0",
            b"*", b"a*", b"[a", b"AB",
        )

    def word(self):
        """One without NUL bytes, at which Redis's numbers end; and of which alone a payload may be made, for it."""
        return self.value().replace(b"\0", b"0")

    def field(self):
        return self.member()

    def field_value(self):
        return [self.member(), self.value()]

    def many_members(self):
        count = self.pick(20, 127, 128, 129, 140) if self.chance(0.15) else self.random.randint(2, 10)
        return [b"m%d" % n for n in range(count)]

    def integers(self):
        count = self.pick(20, 511, 512, 513) if self.chance(0.1) else self.random.randint(2, 10)
        return [b"%d" % (n * self.pick(1, 1, 70000, -(1 << 40))) for n in range(count)]

    def many_fields(self):
        return [word for name in self.many_members() for word in (name, self.value())]

    def many_scores(self):
        return [word for name in self.many_members() for word in (self.score(), name)]

    def match(self):
        return [b"MATCH", self.pattern()]

    def pattern(self):
        return self.pick(b"*", b"a*", b"*1", b"?", b"[a-c]", b"[^a]", b"m?", b"\\*", b"{t}s*", b"*[0-2]", b"[", b"", b"[a", b"x\\")

    def type(self):
        return [b"TYPE", self.pick(b"string", b"hash", b"list", b"set", b"zset", b"stream", b"nosuch")]

    def min_match(self):
        return [b"MINMATCHLEN", self.integer()]

    # Deadlines: far ahead, or over at once. Nothing falls due while a test runs.

    def seconds(self):
        if self.chance(0.15):
            return self.pick(b"0", b"-1", b"9223372036854775807", b"9223372036854775", b"-9223372036854775808", b"abc", b"1.5")
        return b"%d" % self.ahead()

    def milliseconds(self):
        if self.chance(0.15):
            return self.pick(b"0", b"-1", b"9223372036854775807", b"-9223372036854775808", b"abc", b"")
        return b"%d" % (self.ahead() * 1000)

    def ahead(self):
        """Seconds: never the same twice, or it would be a matter of milliseconds which of two deadlines is the later one."""
        self.deadlines += 1
        return self.pick(100000, 200000, 5000000) + 10 * self.deadlines

    def at_seconds(self):
        return self.pick(b"4102444800", b"4102444801", b"9999999999", b"1", b"0", b"-1", b"9223372036854775807", b"x")

    def at_ms(self):
        return self.pick(b"4102444800000", b"4102444800001", b"9999999999999", b"1", b"0", b"-1", b"9223372036854775807", b"x")

    def expiry(self):
        name, draw = self.pick(("EX", self.seconds), ("PX", self.milliseconds), ("EXAT", self.at_seconds), ("PXAT", self.at_ms))
        return [name.encode(), draw()]

    def expire_condition(self):
        return self.pick([b"NX"], [b"XX"], [b"GT"], [b"LT"], [b"NX", b"GT"], [b"XX", b"LT"], [b"GT", b"LT"], [b"nosuch"])

    def ttl_ms(self):
        return self.pick(b"0", b"100000000", b"-1", b"x")

    # Options

    def rank(self):
        return [b"RANK", self.index()]

    def pos_count(self):
        return [b"COUNT", self.count()]

    def maxlen(self):
        return [b"MAXLEN", self.count()]

    def limit(self):
        return [b"LIMIT", self.count()]

    def range_limit(self):
        return [b"LIMIT", self.index(), self.index()]

    def timeout(self):
        return self.pick(b"0", b"0.01", b"1", b"-1", b"abc", b"inf", b"1e20") if self.chance(0.2) else b"1"

    # Bit fields

    def field_type(self):
        if self.chance(0.05):
            return self.pick(b"u64", b"i65", b"u0", b"i0", b"x8", b"u", b"", b"i8x", b"u-1")
        return self.pick(b"u1", b"u4", b"u8", b"i8", b"i5", b"u16", b"i16", b"u32", b"i32", b"u63", b"i64", b"i1")

    def field_offset(self):
        return self.pick(b"0", b"1", b"7", b"#0", b"#1", b"#2", b"13", b"100", b"#-1", b"-1", b"x") if self.chance(0.9) else self.bit_offset()

    def field_get(self):
        return [b"GET", self.field_type(), self.field_offset()]

    def field_op(self):
        roll = self.random.random()
        if roll < 0.3:
            return self.field_get()
        if roll < 0.8:
            field = self.field_type()
            # Redis's own check of limits overflows for numbers this large in smaller fields.
            value = self.integer() if field == b"i64" else self.pick(self.small(), b"129", b"-2147483649", b"65536", b"x")
            return [self.pick(b"SET", b"INCRBY"), field, self.field_offset(), value]
        return [b"OVERFLOW", self.pick(b"WRAP", b"SAT", b"FAIL", b"fail") if self.chance(0.95) else b"NO"]

    # Sorted sets

    def score(self):
        return self.float() if self.chance(0.5) else b"%d" % self.random.randint(-5, 5)

    def score_member(self):
        return [self.score(), self.member()]

    def same_scores(self):
        return [word for _ in range(self.random.randint(2, 8)) for word in (b"0", self.member())]

    def score_bound(self):
        return self.pick(b"", b"", b"", b"(") + self.pick(b"-inf", b"+inf", b"-5", b"0", b"1", b"5", self.score())

    def lex_bound(self):
        return self.pick(b"-", b"+", b"[" + self.member(), b"(" + self.member(), b"[a", b"(c", b"[", b"(" if self.chance(0.9) else b"a")

    def weights(self):
        return [b"WEIGHTS", *(self.score() for _ in range(self.random.randint(1, 3)))]

    def aggregate(self):
        return [b"AGGREGATE", self.pick(b"SUM", b"MIN", b"MAX", b"min") if self.chance(0.97) else b"AVG"]

    # Geo

    def place_name(self):
        return b"p%d" % self.random.randint(0, 9)

    def coordinate(self, bound):
        if self.chance(0.04):
            return self.pick(b"180", b"-180", b"85.05112878", b"-85.05112878", b"85.06", b"180.1", b"x", b"nan", b"inf", b"")
        return b"%.*f" % (self.pick(0, 1, 6, 14), self.random.uniform(-bound, bound))

    def lon_lat(self):
        near = self.chance(0.7)
        return [self.coordinate(5 if near else 180), self.coordinate(5 if near else 85)]

    def place(self):
        return [*self.lon_lat(), self.place_name()]

    def unit(self):
        return self.pick(b"m", b"km", b"ft", b"mi", b"KM") if self.chance(0.97) else b"xx"

    def radius(self):
        return self.pick(b"100", b"1000", b"300", b"20000", b"0", b"5e3", b"0.5") if self.chance(0.95) else self.pick(b"-1", b"x", b"nan", b"inf")

    def geo_from(self):
        return [b"FROMLONLAT", *self.lon_lat()] if self.chance(0.6) else [b"FROMMEMBER", self.place_name()]

    def geo_by(self):
        if self.chance(0.6):
            return [b"BYRADIUS", self.radius(), self.unit()]
        return [b"BYBOX", self.radius(), self.radius(), self.unit()]

    def geo_count(self):
        return [b"COUNT", self.amount()]

    def geo_store(self):
        return [self.pick(b"STORE", b"STOREDIST"), FOUND]

    # Streams

    def small_id(self):
        return self.stream_id() if self.chance(0.05) else b"%d-%d" % (self.random.randint(1, 6), self.random.randint(0, 4))

    def new_id(self):
        if self.chance(0.1):
            return self.stream_id()
        ms = self.random.randint(1, 30)
        return self.pick(b"%d" % ms, b"%d-*" % ms, b"%d-%d" % (ms, self.random.randint(0, 4)))

    def stream_id(self):
        return self.pick(
            b"-", b"+", b"0", b"0-0", b"3", b"5-2", b"(2-1", b"(5", b"18446744073709551615-18446744073709551615", b"(-",
            b"18446744073709551615", b"18446744073709551616-0", b"abc", b"1-", b"-1", b"1-2-3", b"", b"10-0",
            self.small_id() if self.chance(0.5) else b"2",
        )

    def group(self):
        return self.pick(b"g1", b"g1", b"g1", b"g2", b"nogroup" if self.chance(0.2) else b"g2")

    def consumer(self):
        return self.pick(b"c1", b"c2", b"c3")

    def group_start(self):
        return self.pick(b"$", b"0", b"0-0", self.small_id())

    def group_read(self):
        return self.pick(b">", b">", b"0", b"0-0", self.stream_id())

    def trim(self):
        how, size = self.pick((b"MAXLEN", self.count()), (b"MINID", self.stream_id()))
        return self.pick([how, size], [how, b"=", size], [how, b"~", size], [how, b"~", size, b"LIMIT", self.count()])

    def entries_added(self):
        return [b"ENTRIESADDED", self.count()]

    def max_deleted(self):
        return [b"MAXDELETEDID", self.stream_id()]

    def entries_read(self):
        return [b"ENTRIESREAD", self.pick(b"-1", b"0", b"3", b"-2", b"x")]

    def min_idle(self):
        return [b"IDLE", self.min_idle_ms()]

    def min_idle_ms(self):
        return self.pick(b"0", b"0", b"0", b"100000000", b"-1", b"x")

    def claim_option(self):
        return self.pick([b"RETRYCOUNT", self.count()], [b"LASTID", self.small_id()], [b"TIME", b"1000"], [b"IDLE", b"500000000"])

    # SORT

    def sort_by(self):
        return [b"BY", self.pick(b"nosort", b"nosort", b"{t}string*", b"w*->f")]

    def sort_get(self):
        return [b"GET", self.pick(b"#", b"#", b"{t}string*")]

    def nosort(self):
        return [b"BY", b"nosort"]

    def store(self):
        return [b"STORE", self.ownkey()]


class Generator:
    """Steps without end, drawn from one `random.Random`."""

    def __init__(self, random, families=None):
        self.random = random
        self.words = Words(random)
        self.families = families or list(FAMILIES)
        self.templates = {family: parse(FAMILIES[family]) for family in self.families}
        self.blocking = list(zip(BLOCKING_FAMILIES, parse(BLOCKING), strict=True))

    def step(self):
        roll = self.random.random()
        if roll < 0.88:
            return Step("plain", (self.call(),))
        if roll < 0.92:
            return Step("plain", (self.script(),))
        if roll < 0.95:
            return self.transaction()
        if roll < 0.955:
            return self.sort_zset()
        drawn = [family for family in RANDOM if family in self.families]
        return self.draw(self.random.choice(drawn)) if drawn else Step("plain", (self.call(),))

    def call(self):
        family = self.random.choice(self.families)
        call = self.fill(family, self.random.choice(self.templates[family]))
        # ZRANK and ZREVRANK take WITHSCORE, as Redis 7.2 does, and so another number of words.
        if self.random.random() >= 0.03 or family in APART or call[0] in (b"ZRANK", b"ZREVRANK"):
            return call
        spoilt = self.spoil(call)
        return call if depends_on_the_clock(spoilt) else spoilt

    def queued_call(self):
        """The two do not agree on the keys of a call that has a wrong number of them: such run outside of transactions."""
        while True:
            call = self.blocking_call() if self.random.random() < 0.2 else self.call()
            name = call[0].upper()
            miscounted = name in COUNTED and not any(word in call for word in (b"1", b"2", b"3"))
            miscounted |= name.endswith(b"STORE") and b"".join(call[1:2])[:3] != b"{t}"
            if name not in OVER_ALL_KEYS and not miscounted:
                return call

    def fill(self, family, template):
        self.words.family = family
        call = []
        for word in template:
            self.add(call, word)
        return call

    def add(self, call, word):
        if word[0] == "?":
            if self.random.random() < 0.35:
                self.add(call, word[1:])
        elif "|" in word:
            self.add(call, self.random.choice(word.split("|")))
        elif word[-1] == "+":
            for _ in range(self.random.choice((1, 1, 2, 3, 4))):
                self.add(call, word[:-1])
        elif word[0].islower():
            drawn = getattr(self.words, word)()
            if isinstance(drawn, list):
                call.extend(drawn)
            else:
                call.append(drawn)
        else:
            call.append(word.encode())

    def spoil(self, call):
        """The call with an argument too few, too many, or that belongs elsewhere."""
        call = list(call)
        roll = self.random.random()
        at = self.random.randrange(len(call))
        if roll < 0.4 and len(call) > 1:
            del call[max(at, 1)]
        elif roll < 0.7:
            call.insert(max(at, 1), self.words.member().replace(b"\0", b""))
        elif roll < 0.8:
            call[0] = call[0].lower()
        # Numbers of bits and bytes stay as they are: both servers would make strings of half a gigabyte.
        elif call[0] not in (b"SETBIT", b"SETRANGE", b"BITFIELD", b"GETBIT") and len(call) > 1:
            # Redis's numbers end at a NUL byte; quoris's have none.
            call[max(at, 1)] = self.words.value().replace(b"\0", b"")
        return call

    def script(self):
        roll = self.random.random()
        if roll < 0.15:
            keys = [self.words.anykey(), self.words.anykey()]
            return [b"EVAL", COPY_SCRIPT, b"2", *keys]
        if roll < 0.4:
            script = self.random.choice(PURE_SCRIPTS)
            return [b"EVAL", script, b"1", self.words.key(), self.words.value(), self.words.number()]
        call = self.blocking_call() if roll < 0.5 else self.call()
        # The keys a script uses need not be declared; the slot comes from this one.
        return [b"EVAL", self.random.choice(SCRIPTS), b"1", b"{t}", *call]

    def blocking_call(self):
        family, template = self.random.choice(self.blocking)
        return self.fill(family, template)

    def transaction(self):
        count = self.random.randint(1, 5)
        return Step("multi", ([b"MULTI"], *(self.queued_call() for _ in range(count)), [b"EXEC"]))

    def sort_zset(self):
        """Sorts a sorted set, and takes the sorted set away, since Redis has changed its encoding."""
        template = parse("SORT key ?sort_by ?range_limit ?ASC|DESC ALPHA | SORT_RO key ?range_limit ?ASC|DESC ALPHA")
        call = self.fill("zset", self.random.choice(template))
        return Step("plain", (call, [b"DEL", call[1]]))

    def draw(self, family):
        name, read_all, options = self.random.choice(RANDOM[family])
        self.words.family = family
        key = self.random.choice(self.words.keys[family])
        call = [name.encode(), key]
        # Without a number there is nothing for the other options to follow.
        if self.random.random() < 0.7:
            for option in [options[0][1:], *options[1:]]:
                self.add(call, option)
        read = [b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"] if read_all == "ZRANGE" else [read_all.encode(), key]
        after = [[b"DEL", key]] if name == "SPOP" else []
        return Step("random", (read, call, *after))

