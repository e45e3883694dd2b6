//! How long a script can last: runs scripts that never end, the worst of each kind, to the end of the default budget, and prints
//! the processor time that each took.
//!
//! ```sh
//! cargo run --release -p quoris-engine --example script_bounds
//! ```

use bytes::Bytes;
use prost::Message;
use quoris_engine::entry::{Genesis, SlotRange};
use quoris_engine::machine::{BatchOutcome, Position, Replies};
use quoris_engine::{Batch, Call, Entry, Machine, Reply, SLOT_COUNT, Stamp};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SCRIPTS: [(&str, &str); 52] = [
    ("nothing", "while true do end"),
    ("arithmetic", "local n = 0 while true do n = (n * 3 + 1) % 7 end"),
    ("power", "local n = 1 while true do n = 2 ^ 0.5 end"),
    ("calls", "local function f() end while true do f() end"),
    ("tables", "while true do local t = {} end"),
    ("coroutines", "while true do coroutine.wrap(function() end)() end"),
    ("concatenation", "local a = string.rep('x', 4000000) while true do local b = a .. 'y' end"),
    ("concatenation of short ones", "local a = 'x' while true do local b = a .. 'y' end"),
    ("comparison", "local a = string.rep('x', 4000000) local b = a .. 'b' while a < b do end"),
    (
        "comparison of 64 KB",
        "local a = string.rep('x', 65535) local b = string.rep('x', 65535) .. 'b' while a < b do end",
    ),
    (
        "comparison of 512 bytes",
        "local a = string.rep('x', 511) .. 'a' local b = string.rep('x', 511) .. 'b' while a < b do end",
    ),
    ("comparison of 50 MB", "local a = string.rep('x', 50000000) local b = a .. 'b' while a < b do end"),
    ("comparison of words", "local a, b = 'word', 'work' while a < b do end"),
    (
        "sort of long ones",
        "local a = string.rep('x', 1000000) local b = {a .. 'a', a .. 'b'} local t = {} for i = 1, 10000 do t[i] = b[i % 2 + 1] end table.sort(t)",
    ),
    ("digits", "local a = string.rep('1', 65000) while true do local b = a + 1 end"),
    ("digits of a fraction", "local a = '0.' .. string.rep('1', 65000) while true do local b = a + 1 end"),
    ("digits, a few hundred", "local a = '0.' .. string.rep('1', 700) while true do local b = a + 1 end"),
    ("digits, in base 16", "local a = '0x1.' .. string.rep('1', 65000) while true do local b = a + 1 end"),
    ("a number and spaces", "local a = '1' .. string.rep(' ', 65000) while true do local b = a + 1 end"),
    ("digits by tonumber", "local a = string.rep('1', 65000) while true do local b = tonumber(a, 2) end"),
    (
        "a full table",
        "local t = {} for i = 1, 1048576 do t[-i] = i end local i = 0 while true do i = i + 1 t[-i] = nil t[-1048576 - i] = 1 end",
    ),
    (
        "a full table of a hundred",
        "local t = {} for i = 1, 128 do t[-i] = i end local i = 0 while true do i = i + 1 t[-i] = nil t[-128 - i] = 1 end",
    ),
    (
        "a full table with a long list",
        "local t = {} for i = 1, 4000000 do t[i] = i end while true do t.a = 1 t.b = 1 t.c = 1 t.a = nil t.b = nil t.c = nil t.d = 1 t.e = 1 t.d = nil t.e = nil end",
    ),
    (
        "an emptied list",
        "local t = {} for i = 1, 1000000 do t[i] = i end for i = 1, 1000000 do t[i] = nil end while true do next(t) end",
    ),
    (
        "keys that share a place",
        "local t, i = {}, 0 while true do i = i + 1 t[2 ^ 52 + i * 2 ^ 32 + 2 ^ 31 - i] = 1 end",
    ),
    (
        "strings that share a place",
        "local n, f = 0, math.floor while true do n = n + 1 local s = string.format('x%02dx%02dx%02dxyyxyyxyyxyyxyyxyyxyyxyyxyyxyyxyyxyyxyyxyyxyyxyyxyyxyyx', n % 100, f(n / 100) % 100, f(n / 10000) % 100) end",
    ),
    ("new strings by ..", "local n = 0 while true do n = n + 1 local s = n .. 'x' end"),
    (
        "new strings by sub",
        "local t, n = {}, 0 for i = 1, 100000 do t[i] = i end local a = table.concat(t) while true do n = (n + 1) % 400000 local s = a:sub(n, n + 20) end",
    ),
    ("new strings by tostring", "local n = 0 while true do n = n + 1 local s = tostring(n) end"),
    ("bit", "while true do bit.bor(1, 2) end"),
    ("tables that are kept", "local t, n = {}, 0 while true do n = n + 1 t[n] = {n} end"),
    ("maxn", "local t = {} for i = 1, 1000000 do t[-i] = i end while true do table.maxn(t) end"),
    ("code", "local a = '--' .. string.rep('x', 1000000) while true do loadstring(a) end"),
    (
        "many arguments",
        "local t = {} for i = 1, 7000 do t[i] = i end local function f(...) return f(...) end f(unpack(t))",
    ),
    ("unpack", "local t = {} for i = 1, 7000 do t[i] = i end while true do local a = unpack(t) end"),
    (
        "sort",
        "local t = {} for i = 1, 100000 do t[i] = (i * 7919) % 100003 end while true do table.sort(t, function(a, b) return a > b end) end",
    ),
    (
        "insertion",
        "local t = {} for i = 1, 100000 do t[i] = i end while true do table.insert(t, 1, 1) table.remove(t, 1) end",
    ),
    ("sub", "local a = string.rep('x', 1000000) while true do local b = a:sub(2) end"),
    ("upper", "local a = string.rep('x', 1000000) while true do local b = a:upper() end"),
    ("format", "while true do local b = string.format('%s %d %g', 'x', 1, 1.5) end"),
    ("patterns", "local a = string.rep('a', 5000) while true do a:find('.-.-b') end"),
    (
        "cjson",
        "local t = {} for i = 1, 1000 do t[i] = {i} end while true do cjson.decode(cjson.encode(t)) end",
    ),
    (
        "cmsgpack",
        "local t = {} for i = 1, 1000 do t[i] = {i} end while true do cmsgpack.unpack(cmsgpack.pack(t)) end",
    ),
    ("struct", "while true do struct.unpack('bhid', struct.pack('bhid', 1, 2, 3, 4)) end"),
    ("sha1", "local a = string.rep('x', 1000000) while true do redis.sha1hex(a) end"),
    ("GET", "redis.call('set', 'k', 'v') while true do redis.call('get', 'k') end"),
    ("SET", "while true do redis.call('set', 'k', 'v') end"),
    (
        "LRANGE",
        "for i = 1, 10000 do redis.call('rpush', 'l', i) end while true do redis.call('lrange', 'l', 0, -1) end",
    ),
    (
        "LPOS",
        "for i = 1, 10000 do redis.call('rpush', 'l', i) end while true do redis.call('lpos', 'l', 'x') end",
    ),
    (
        "SUNIONSTORE",
        "for i = 1, 10000 do redis.call('sadd', '{s}a', i) end while true do redis.call('sunionstore', '{s}b', '{s}a') end",
    ),
    (
        "SORT",
        "for i = 1, 10000 do redis.call('rpush', 'l', i) end while true do redis.call('sort', 'l', 'desc') end",
    ),
    (
        "LCS",
        "redis.call('set', '{s}a', string.rep('ab', 500)) redis.call('set', '{s}b', string.rep('ba', 500)) while true do redis.call('lcs', '{s}a', '{s}b', 'len') end",
    ),
];

fn apply(machine: &mut Machine, index: u64, entry: Entry) -> Vec<BatchOutcome> {
    let stamp = Some(Stamp { now_ms: 1_700_000_000_000 + index, seed: index, ..Stamp::default() });
    let bytes: Bytes = Entry { stamp, ..entry }.encode_to_vec().into();
    machine.apply_bytes(Position { term: 1, index }, bytes, Replies::Wanted).expect("is an entry").outcomes
}

/// Milliseconds that a script takes, and how it ended.
fn time(script: &'static str) -> (f64, String) {
    let mut machine = Machine::new(1);
    let slots = vec![SlotRange { start: 0, end: u32::from(SLOT_COUNT) - 1 }];
    let genesis = Some(Genesis { cluster_id: "bounds".to_string(), group: 1, slots, topology: None });
    apply(&mut machine, 1, Entry { genesis, ..Entry::default() });
    let batches = vec![Batch::of(vec![Call::new(["eval", script, "0"])])];
    let before = processor_ns();
    let outcomes = apply(&mut machine, 2, Entry { batches, ..Entry::default() });
    let took_ms = (processor_ns() - before) / 1e6;
    let end = match &outcomes[0] {
        BatchOutcome::Ran(replies) => match &replies[0] {
            Reply::Error(error) => error.to_string(),
            reply => format!("{reply:?}"),
        },
        _ => "did not run".to_string(),
    };
    (took_ms, end)
}

/// What this thread has had of a processor.
fn processor_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
}

fn main() {
    let chosen = std::env::args().nth(1);
    let chosen = |name: &str| chosen.as_ref().is_none_or(|chosen| name == chosen);
    for (name, script) in SCRIPTS.into_iter().filter(|(name, _)| chosen(name)) {
        let (took_ms, end) = time(script);
        // The script's name stands in the middle of it.
        let end = end.split_once("needs more").map_or("out of instructions", |_| "out of memory");
        println!("{name:30} {took_ms:8.0} ms  {end}");
    }
}
