//! What scripts do to the functions that go through C alone.

use super::super::host::Host;
use super::super::interpreter::{Ended, Interpreter};
use super::super::{Budget, Code, Run, ScriptFlags, scripts};
use super::*;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::rng::Rng;

fn ended_within(interpreter: &mut Interpreter, body: &str, budget: Budget) -> Ended {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let code = Code::Script { sha: scripts::sha1_hex(&body), body };
    let (keys, args) = ([Bytes::from("a\0b")], [Bytes::from_static(b"\xff\0"), Bytes::new()]);
    let run = Run { code, flags: ScriptFlags::COMPAT, keys: &keys, args: &args, read_only: false };
    let mut keyspace = Keyspace::new(1);
    let host = Host::lent(&mut keyspace, interpreter.room.take(), Rng::for_call(1, 1), budget, &run);
    let (mut host, ended) = interpreter.run(host, &run);
    host.give_back(&mut keyspace);
    interpreter.room = Some(host);
    ended
}

fn ended(body: &str) -> Ended {
    ended_within(&mut Interpreter::new(), body, Budget::default())
}

fn bulk(text: &'static str) -> Ended {
    Ended::Value(Reply::Bulk(Bytes::from(text)))
}

#[test]
fn words_and_replies_are_any_bytes() {
    let words = [
        ("'a\\0b'", "a\0b"),
        ("''", ""),
        ("KEYS[1]", "a\0b"),
        ("12", "12"),
        ("-0", "-0"),
        ("1e17", "100000000000000000"),
        ("2^53", "9007199254740992"),
        ("-2^63", "-9223372036854775808"),
        ("2^63", "9.2233720368547758e+18"),
        ("0.1", "0.10000000000000001"),
        ("1/0", "inf"),
    ];
    for (word, text) in words {
        assert_eq!(ended(&format!("return redis.call('echo', {word})")), bulk(text), "{word}");
    }
    let args = "return redis.call('echo', ARGV[1]) == '\\255\\0' and ARGV[2] == '' and #ARGV";
    assert_eq!(ended(args), Ended::Value(Reply::Int(2)));
    let status =
        "local s = redis.call('ping') local n = 0 for k, v in pairs(s) do n = n + 1 end return s.ok .. n";
    assert_eq!(ended(status), bulk("PONG1"));
    // A table is the script's own, whatever the reply.
    let own =
        "redis.call('select', 0).ok = 'x' redis.call('select', 0)[1] = 1 return redis.call('select', 0).ok";
    assert_eq!(ended(own), bulk("OK"));
}

/// Errors are raised where the call stands, through whatever catches them on the way.
#[test]
fn errors_have_their_lines() {
    let lines = [
        ("\n\nredis.call('nosuch')", 3),
        ("local f = function()\nredis.call('nosuch') end\nf()", 2),
        ("local w = coroutine.wrap(function()\n\nredis.call('nosuch') end)\n\nw()", 5),
        ("pcall(redis.call, 'nosuch')\npcall(pcall, redis.call, {})\nredis.call()", 3),
    ];
    for (script, line) in lines {
        let Ended::Error(error) = ended(script) else { panic!("{script} has raised nothing") };
        let error = error.to_string();
        assert!(error.ends_with(&format!("on @user_script:{line}.")), "{script}: {error}");
    }
}

/// Each coroutine has a stack of its own.
#[test]
fn coroutines_call_commands() {
    let calls = "
        local function all()
            local time = redis.call('time')
            local ok, failure = pcall(redis.call, 'nosuch')
            coroutine.yield(#time, ok, failure, redis.call('echo', 'x'), redis.call('ping').ok)
            return redis.pcall('nosuch').err
        end
        local co = coroutine.create(all)
        local _, n, ok, failure, echo, pong = coroutine.resume(co)
        local _, last = coroutine.resume(co)
        return table.concat({n, tostring(ok), failure, echo, pong, last}, '|')";
    let unknown = "ERR Unknown Redis command called from script";
    let text = format!("2|false|{unknown}|x|PONG|{unknown}");
    assert_eq!(ended(calls), Ended::Value(Reply::bulk(text)));
    let deep = "
        local function deeper(n)
            if n == 0 then return redis.call('echo', 'deep') end
            return coroutine.wrap(function() return deeper(n - 1) end)()
        end
        return deeper(100)";
    assert_eq!(ended(deep), bulk("deep"));
}

#[test]
fn a_call_has_as_many_words_as_a_script_can_unpack() {
    let many = "local t = {} for i = 1, 7999 do t[i] = i end ";
    let wrong = "ERR Wrong number of args calling Redis command from script";
    let called = ended(&format!("{many} return redis.pcall('echo', unpack(t)).err"));
    assert_eq!(called, Ended::Value(Reply::bulk(wrong)));
    let other = "ERR Lua redis lib command arguments must be strings or integers";
    let called = ended(&format!("{many} t[7999] = {{}} return redis.pcall('echo', unpack(t)).err"));
    assert_eq!(called, Ended::Value(Reply::bulk(other)));
    // A coroutine is handed fewer.
    let through = "local t = {} for i = 1, 3000 do t[i] = i end
        return coroutine.wrap(function(...) return redis.pcall('echo', ...).err end)(unpack(t))";
    assert_eq!(ended(through), Ended::Value(Reply::bulk(wrong)));
}

/// However the script tries to catch it, and whatever is being pushed when there is no more.
#[test]
fn a_lack_of_memory_within_a_push_ends_the_script() {
    let keep = "local t = {} for i = 1, 2000 do t[i] = ";
    let scripts = [
        "redis.call('ping') end return 'good'",
        "redis.call('select', 0) end return 'good'",
        "redis.call('echo', i .. 'some text') end return 'good'",
        "redis.call('time') end return 'good'",
        "redis.pcall('nosuch') end return 'good'",
        "{pcall(redis.call, 'echo', i .. 'some text')} end return 'good'",
        "{xpcall(function() return redis.call('ping') end, function() return 'caught' end)} end return 'good'",
        "coroutine.wrap(function() return redis.call('echo', i .. 'some text') end)() end return 'good'",
    ];
    for script in scripts {
        let script = format!("{keep}{script}");
        let mut short = 0;
        for bytes in (1..40).map(|n| n * n * 5003) {
            let budget = Budget { bytes, ..Budget::default() };
            match ended_within(&mut Interpreter::new(), &script, budget) {
                Ended::OutOfMemory => short += 1,
                end => assert_eq!(end, bulk("good"), "{script} with {bytes}"),
            }
        }
        assert!((1..39).contains(&short), "{script}: {short}");
    }
}

/// What an interpreter has run before decides nothing.
#[test]
fn results_do_not_depend_on_what_has_run_before() {
    const SCRIPTS: [&str; 15] = [
        "return {KEYS[1], ARGV[1], #ARGV, redis.call('ping'), redis.call('echo', 1)}",
        "redis.setresp(3) return redis.call('debug', 'protocol', 'null') == nil",
        "return redis.call('debug', 'protocol', 'null') == false",
        "local function f(...) return select('#', ...) end return f(1, 2, 3)",
        "local t = {} for i = 1, 7000 do t[i] = i end for i = 1, 5 do select('#', unpack(t)) end return 1",
        "cjson.decode_max_depth(1) return cjson.decode('[1]')[1]",
        "return cjson.decode('[[1]]')[1][1]",
        "return next({a = 1, b = 2})",
        "for i = 1, 3 do redis.call('nosuch') end",
        "KEYS[1] = nil ARGV = {}",
        "KEYS[1] = 'changed' return #KEYS",
        "while true do redis.call('ping') end",
        "local t = {} while true do t[#t + 1] = redis.call('echo', 'some text') end",
        "return {math.random(), redis.call('time')[1]}",
        "return tonumber('12') + tonumber('-3')",
    ];
    let budget = Budget { instructions: 100_000, bytes: 4 << 20, ..Budget::default() };
    let alone: Vec<Ended> =
        SCRIPTS.iter().map(|script| ended_within(&mut Interpreter::new(), script, budget)).collect();
    let mut used = Interpreter::new();
    for step in [1, 2, 4, 7, 8, 11] {
        for i in (0..SCRIPTS.len()).map(|i| i * step % SCRIPTS.len()) {
            assert_eq!(ended_within(&mut used, SCRIPTS[i], budget), alone[i], "{}", SCRIPTS[i]);
        }
    }
}

/// The collector rests while scripts run, and between them for as long as there is little.
#[test]
fn garbage_is_collected_between_scripts() {
    let mut interpreter = Interpreter::new();
    let before = interpreter.used_bytes();
    for _ in 0..200 {
        let ended = ended_within(
            &mut interpreter,
            "for i = 1, 100 do redis.call('ping') end return 1",
            Budget::default(),
        );
        assert_eq!(ended, Ended::Value(Reply::Int(1)));
    }
    let grown = interpreter.used_bytes() - before;
    assert!(grown < 1 << 20, "{grown}");
}

/// It goes on where Lua has been called from: no script catches it, and no frame of C's sees it.
#[test]
fn a_panic_goes_through_lua() {
    let lua = Lua::new_with(mlua::StdLib::NONE, mlua::LuaOptions::new().catch_rust_panics(false))
        .expect("a new state");
    let world = Rc::<World>::default();
    let [call, _] = commands(&lua, &world).expect("two functions");
    let prelude =
        lua.load("return { globals = {}, begin = function() end, located = function(e) return e end, xpcall = xpcall }");
    let chunks = lua.load("local call = ... return { calls = function() return pcall(call, 'ping') end, loops = function() while true do end end }");
    let (prelude, chunks): (Table, Table) =
        (prelude.eval().expect("a table"), chunks.call(&call).expect("a table"));
    let mut entrance = Entrance::new(&lua, &prelude, &chunks).expect("an entrance");
    for chunk in ["calls", "loops"] {
        assert!(entrance.enter(chunk, &[], &[]));
        entrance.watch(u64::MAX);
        // Whoever asks the host while somebody is at it panics.
        let ran = catch_unwind(AssertUnwindSafe(|| world.ask(|_| drop(entrance.run()))));
        assert!(ran.is_err(), "{chunk}");
    }
    // The state is as good as before.
    assert!(entrance.enter("calls", &[], &[]));
    assert!(matches!(entrance.run(), Returned::Plain(Plain::Bool(false))));
    assert!(!entrance.enter("nothing", &[], &[]));
}

#[test]
fn tonumber_reads_as_luas_own() {
    let lua = Lua::new();
    let original: Function = lua.globals().get("tonumber").expect("it is there");
    lua.globals().set("ours", tonumber(&lua, &original).expect("a function")).expect("a name");
    let same: Function = lua
        .load(
            "return function(...)
                local function shown(ok, value)
                    if value == 0 then value = 1 / value end
                    return tostring(ok) .. ' ' .. tostring(value)
                end
                local a, b = shown(pcall(ours, ...)), shown(pcall(tonumber, ...))
                return a == b or (a .. ' | ' .. b)
            end",
        )
        .eval()
        .expect("a function");
    let texts = [
        "",
        "-",
        "--1",
        "+1",
        "0",
        "-0",
        "1",
        "-12",
        "000000000000012",
        "123456789012345",
        "-999999999999999",
        "1234567890123456",
        "99999999999999999999",
        " 12 ",
        "12 ",
        "12a",
        "1\0",
        "1.5",
        "1e3",
        "0x10",
        "0x",
        "nan",
        "inf",
        ":1",
        "/1",
        "-:",
    ];
    for text in texts {
        assert_eq!(same.call::<Value>(text).expect("a value"), Value::Boolean(true), "{text:?}");
    }
    for (text, base) in [("10", 2), ("ff", 16), ("12", 10), ("12", 1)] {
        assert_eq!(same.call::<Value>((text, base)).expect("a value"), Value::Boolean(true), "{text} {base}");
    }
    for other in [Value::Nil, Value::Boolean(true), Value::Number(1.5)] {
        assert_eq!(same.call::<Value>(&other).expect("a value"), Value::Boolean(true), "{other:?}");
    }
    assert_eq!(same.call::<Value>(()).expect("a value"), Value::Boolean(true));
    let failure = "return select(2, pcall(function() tonumber() end))";
    assert!(
        matches!(ended(failure), Ended::Value(Reply::Bulk(text)) if text.ends_with(b"bad argument #1 to 'tonumber' (value expected)"))
    );
}
