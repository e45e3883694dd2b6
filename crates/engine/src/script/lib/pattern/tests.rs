//! Beside Lua's own matcher, on random patterns and texts.

use proptest::prelude::*;

use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::rng::Rng;
use crate::script::host::Host;
use crate::script::interpreter::{Ended, Interpreter};
use crate::script::{Budget, Code, Run, ScriptFlags, scripts};

/// What Lua's own library says, in a state without the prelude.
fn of_lua(text: &str, pattern: &str) -> String {
    let lua = mlua::Lua::new();
    let body = format!("{CALLS} return calls(...)");
    let answer = lua.load(body).set_name("@user_script").call::<mlua::BString>((text, pattern));
    answer.map_or_else(|error| error.to_string(), |answer| String::from_utf8_lossy(&answer).into_owned())
}

fn of_script(interpreter: &mut Interpreter, text: &str, pattern: &str) -> String {
    let body = format!("{CALLS} return calls(ARGV[1], ARGV[2])");
    let args = [text, pattern].map(|word| bytes::Bytes::copy_from_slice(word.as_bytes()));
    let code = Code::Script { sha: scripts::sha1_hex(body.as_bytes()), body: body.into() };
    let run = Run { code, flags: ScriptFlags::COMPAT, keys: &[], args: &args, read_only: false };
    let host = Host::new(Keyspace::new(1), Rng::for_call(1, 1), Budget::default(), &run, None);
    match interpreter.run(host, &run).1 {
        Ended::Value(Reply::Bulk(answer)) => String::from_utf8_lossy(&answer).into_owned(),
        other => format!("{other:?}"),
    }
}

/// All uses of a pattern, each with its error if it has one.
const CALLS: &str = r#"
local function calls(s, p)
    local out = {}
    -- Not a tail call: an error tells where its caller is.
    local function id(...) return ... end
    local function show(...)
        out[#out + 1] = select('#', ...)
        for i = 1, select('#', ...) do out[#out + 1] = tostring((select(i, ...))) end
    end
    show(pcall(function() return id(string.find(s, p)) end))
    show(pcall(function() return id(string.find(s, p, -3)) end))
    show(pcall(function() return id(s:find(p, 2, true)) end))
    show(pcall(function() return id(s:match(p)) end))
    show(pcall(function() return id(s:match(p, 3)) end))
    show(pcall(function() local all = {} for a, b in s:gmatch(p) do all[#all + 1] = tostring(a) .. ':' .. tostring(b) end return table.concat(all, ';') end))
    show(pcall(function() return id(s:gsub(p, '<%0|%1>')) end))
    show(pcall(function() return id(s:gsub(p, 'x', 2)) end))
    show(pcall(function() return id(s:gsub(p, function(a, b) if a ~= 'a' then return tostring(a) .. tostring(b) end end)) end))
    show(pcall(function() return id(s:gsub(p, { a = 'A', b = false, ab = 7 }, 3)) end))
    return table.concat(out, ',')
end
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn patterns_match_as_in_lua(
        text in "[ab1 ()]{0,12}",
        pattern in prop::collection::vec(prop::sample::select(vec![
            "a", "b", "1", " ", ".", "%a", "%d", "%s", "%A", "%w", "[ab]", "[^a]", "[a-b1]", "[%d ]", "[]a]", "[^]]", "*", "+", "-", "?",
            "(", ")", "()", "%1", "%2", "%b()", "%bab", "%f[a]", "%f[^a]", "^", "$", "%", "[", "]", "%(", "\0", "[a-", "[%a-z]", "%b", "%fa",
        ]), 0..7),
    ) {
        let pattern = pattern.concat();
        let expected = of_lua(&text, &pattern);
        let seen = INTERPRETER.with_borrow_mut(|interpreter| of_script(interpreter, &text, &pattern));
        prop_assert_eq!(seen, expected);
    }
}

thread_local! {
    static INTERPRETER: std::cell::RefCell<Interpreter> = std::cell::RefCell::new(Interpreter::new());
}
