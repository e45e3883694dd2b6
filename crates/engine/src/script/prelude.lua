-- Runs once in each interpreter, before any script: what scripts may see, and what keeps replicas alike.
--
-- `host` holds quoris's own functions (host.rs). Scripts see no table of this file but locked ones.
-- What would differ between replicas is replaced: the order of pairs and next (tables hash by address where keys are tables
-- or functions), addresses in tostring, the collector's figures, random numbers, the platform's maths.
local host, math_of_host, libraries = ...

local error, type, select, unpack, rawget, rawset, rawequal = error, type, select, unpack, rawget, rawset, rawequal
local getmetatable, setmetatable, tonumber, assert, ipairs = getmetatable, setmetatable, tonumber, assert, ipairs
local raw_tostring, raw_pairs, raw_next, raw_pcall, raw_xpcall = tostring, pairs, next, pcall, xpcall
local raw_getfenv, raw_setfenv, raw_loadstring = getfenv, setfenv, loadstring
local byte, match, sub, raw_gsub = string.byte, string.match, string.sub, string.gsub
local concat, sort = table.concat, table.sort
local raw_resume, create, original = coroutine.resume, coroutine.create, _G

-- Locked tables -----------------------------------------------------------------------------------------------------

local READONLY = "Attempt to modify a readonly table"

-- What getmetatable shows of a locked table.
local LOCK = {}
local LOCKED = { __metatable = LOCK }
local locked = {}

-- Lua itself refuses what would change such a table, by whatever way. rawset and setmetatable do so in the caller's name.
local function lock(t)
    if not getmetatable(t) then setmetatable(t, LOCKED) end
    locked[t] = true
    return host.lock(t)
end
lock(LOCK)

local function missing(_, name)
    error("Script attempted to access nonexistent global variable '" .. raw_tostring(name) .. "'", 2)
end

getmetatable("").__metatable = LOCK

-- The same order everywhere -----------------------------------------------------------------------------------------

local RANK = { number = 1, string = 2, boolean = 3 }
local function before(a, b)
    local rank_a, rank_b = RANK[type(a)], RANK[type(b)]
    if rank_a ~= rank_b then return rank_a < rank_b end
    if rank_a == 3 then return not a and b end
    return a < b
end

-- The keys of `t` in order: numbers, strings, booleans, each kind ascending.
local function keys_of(t)
    local keys, n, ascending = {}, 0, true
    for key in raw_next, t do
        n = n + 1
        keys[n] = key
        ascending = ascending and key == n
        if not RANK[type(key)] then
            error("keys that are " .. type(key) .. "s have no order that is the same on every replica", 3)
        end
    end
    if not ascending then sort(keys, before) end
    return keys, n
end

local function pairs(t)
    if type(t) ~= "table" then return raw_pairs(t) end
    local keys, n = keys_of(t)
    local at = 0
    return function()
        while at < n do
            at = at + 1
            local value = rawget(t, keys[at])
            if value ~= nil then return keys[at], value end
        end
    end, t, nil
end

-- The walk that next is on: it goes on without sorting again.
local NO_WALK = { at = 0, n = 0 }
local walk = NO_WALK
local function next(t, key)
    if type(t) ~= "table" then return raw_next(t, key) end
    if key == nil then
        if raw_next(t) == nil then return nil end
        walk = { of = t, at = 0 }
        walk.keys, walk.n = keys_of(t)
    elseif walk.of ~= t or not rawequal(walk.keys[walk.at], key) then
        local keys, n = keys_of(t)
        local at = 1
        while at <= n and not rawequal(keys[at], key) do at = at + 1 end
        if at > n then error("invalid key to 'next'", 2) end
        walk = { of = t, keys = keys, n = n, at = at }
    end
    while walk.at < walk.n do
        walk.at = walk.at + 1
        local value = rawget(t, walk.keys[walk.at])
        if value ~= nil then return walk.keys[walk.at], value end
    end
    return nil
end

local function foreach(t, f)
    for key, value in pairs(t) do
        local result = f(key, value)
        if result ~= nil then return result end
    end
end

local ADDRESSED = { ["table"] = true, ["function"] = true, thread = true, userdata = true }
local function tostring(value)
    local kind = type(value)
    if not ADDRESSED[kind] or kind == "userdata" then return raw_tostring(value) end
    local meta = getmetatable(value)
    if type(meta) == "table" and meta ~= LOCK and rawget(meta, "__tostring") then return raw_tostring(value) end
    return kind .. ": 0x0"
end

-- What takes long in one instruction is counted as more of them: a script that has none left ends with the next one.
local charge = host.charge

-- Counts a string that has been made.
local function made(text)
    charge(#text / 16)
    return text
end

-- What source.rs has written, a ^ b as a ^ MARK ^ b: first MARK keeps the exponent, then the rest takes the base.
local MARK, KEPT, kept = {}, {}, nil
local function number(value)
    return tonumber(value) or error("attempt to perform arithmetic on a " .. type(value) .. " value", 3)
end
local marked = {
    __pow = function(base, exponent)
        if rawequal(base, MARK) then
            if not rawequal(exponent, KEPT) then kept = exponent end
            return KEPT
        end
        local meta = type(kept) == "table" and getmetatable(kept)
        local own = type(meta) == "table" and rawget(meta, "__pow")
        if own then return own(base, kept) end
        local _, result = math_of_host.pow(number(base), number(kept))
        return result
    end,
    __metatable = LOCK,
}
for _, mark in ipairs({ MARK, KEPT }) do lock(setmetatable(mark, marked)) end

-- Errors ------------------------------------------------------------------------------------------------------------

local NO_MEMORY = "not enough memory"

-- What scripts see of an error, if they may: one that has used up its budget is at its end, whatever it catches.
local function seen(failure)
    local raised
    if failure == NO_MEMORY then host.out_of_memory() end
    if type(failure) == "userdata" then raised = host.raised(failure) end
    if host.must_end() then error(failure, 0) end
    return raised or failure
end

-- As Redis: who catches the error table of redis.call sees its text.
local function settle(ok, ...)
    if ok then return true, ... end
    local failure = seen((...))
    if type(failure) == "table" and type(rawget(failure, "err")) == "string" then failure = rawget(failure, "err") end
    if type(failure) == "userdata" then failure = raw_tostring(failure) end
    return false, failure
end

local function pcall(...) return settle(raw_pcall(...)) end

local function settle_resume(ok, ...)
    if not ok then return ok, seen((...)) end
    return ok, ...
end

local function xpcall(f, handler)
    local function handle(failure)
        local raised = type(failure) == "userdata" and host.raised(failure)
        if host.must_end() then return failure end
        return handler(raised or failure)
    end
    return settle_resume(raw_xpcall(f, handle))
end

-- Lua counts the instructions of each coroutine by itself: entering one costs as much as they may run uncounted.
local function resume(...)
    if host.look() then error("the script has used up its budget", 0) end
    return settle_resume(raw_resume(...))
end

local function resumed(ok, ...)
    if ok then return ... end
    error((...), 0)
end

local function wrap(f)
    local co = create(f)
    return function(...) return resumed(resume(co, ...)) end
end

-- What a script ends with when it does not catch an error: the text, and where it arose.
local function located(failure)
    local text, quiet
    if type(failure) == "userdata" then failure = host.raised(failure) or failure end
    if type(failure) == "table" then
        text, quiet = rawget(failure, "err"), rawget(failure, "ignore_error_stats_update")
    else
        text = "ERR " .. raw_tostring(failure)
        -- Behind the first line of an error of the host's own stands where it arose in there.
        if type(failure) == "userdata" then text = match(text, "^[^\n]*") end
    end
    host.must_end()
    local source, line = host.where()
    return { err = text, source = source, line = line, ignore_error_stats_update = quiet }
end

-- Loading more code -------------------------------------------------------------------------------------------------

-- What scripts see; and what the code of libraries does, which sees less while it registers its functions.
local globals = setmetatable({}, { __index = missing, __metatable = LOCK })
local registering = setmetatable({}, { __index = missing })
local library_meta = { __index = globals, __metatable = LOCK }
local library_globals = lock(setmetatable({}, library_meta))

local function loadstring(text, name)
    if type(text) == "string" and byte(text, 1) == 27 then return nil, "binary chunks are not loaded" end
    if type(text) == "string" then
        charge(#text)
        -- What stands before the text must not become its name.
        text, name = host.prepared(text), name or text
    end
    local f, failure = raw_loadstring(text, name)
    if not f then return nil, seen(failure) end
    return raw_setfenv(f, globals)
end

local function load(reader, name)
    local pieces = {}
    while true do
        local piece = reader()
        if piece == nil or piece == "" then break end
        pieces[#pieces + 1] = piece
    end
    return loadstring(concat(pieces), name)
end

local function getfenv(f)
    if f == nil then f = 1 end
    if type(f) == "number" and f > 0 then f = f + 1 end
    local found = raw_getfenv(f)
    if found == original or found == library_globals then return globals end
    return found
end

local function setfenv(f, t)
    if type(f) == "number" and f > 0 then f = f + 1 end
    if f == 0 or raw_getfenv(f) == original then error("'setfenv' cannot change environment of given object", 2) end
    return raw_setfenv(f, t)
end

-- redis.* -----------------------------------------------------------------------------------------------------------

local function failure_of(text) error({ err = text }, 0) end

-- Host functions answer what went wrong; Lua errors are raised here.
local function raising(f)
    return function(...)
        local ok, value = f(...)
        if ok then return value end
        failure_of(value)
    end
end

local redis = {
    call = host.call,
    pcall = host.pcall,
    sha1hex = raising(host.sha1hex),
    error_reply = raising(host.error_reply),
    status_reply = raising(host.status_reply),
    setresp = raising(host.setresp),
    log = raising(host.log),
    acl_check_cmd = raising(host.acl_check_cmd),
    set_repl = raising(host.set_repl),
    replicate_commands = function() return true end,
    breakpoint = function() return false end,
    debug = function() end,
    REPL_NONE = 0, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_ALL = 3,
}
local library_redis = { log = redis.log, register_function = raising(host.register_function) }
for _, of in ipairs({ redis, library_redis }) do
    of.LOG_DEBUG, of.LOG_VERBOSE, of.LOG_NOTICE, of.LOG_WARNING = 0, 1, 2, 3
    of.REDIS_VERSION, of.REDIS_VERSION_NUM = host.version, host.version_num
end
setmetatable(library_redis, { __index = missing, __metatable = LOCK })

-- What scripts see --------------------------------------------------------------------------------------------------

local function copy(from, change)
    local to = {}
    for key, value in raw_pairs(from) do to[key] = value end
    for key, value in raw_pairs(change) do to[key] = value end
    return to
end

-- Functions of the host's libraries answer what went wrong; the error is raised where the script called them.
local function given(ok, ...)
    if ok then return ... end
    if (...) == NO_MEMORY then host.out_of_memory() end
    error((...), 3)
end

local function erring(library)
    local raised = {}
    for name, value in raw_pairs(library) do
        raised[name] = value
        if type(value) == "function" then raised[name] = function(...) return given(value(...)) end end
    end
    return raised
end

-- Costs ------------------------------------------------------------------------------------------------------------

local function count_of(n, other)
    n = tonumber(n) or other
    return n < 2 ^ 63 and n or 0
end

-- What a function of Lua's own gives; its error is the caller's of who asks for it, as if that had called it.
local function through(name, ok, ...)
    if ok then return ... end
    local failure = ...
    if failure == NO_MEMORY then host.out_of_memory() end
    if type(failure) == "string" then failure = raw_gsub(failure, "'%?'", "'" .. name .. "'") end
    error(failure, 3)
end

local raw_rep, insert, remove, maxn, foreachi = string.rep, table.insert, table.remove, table.maxn, table.foreachi
string.rep = function(text, ...)
    local n = count_of((...), 0)
    charge(n / 4)
    local kind = type(text)
    if kind == "string" then charge(n * #text / 16) end
    return through("rep", raw_pcall(raw_rep, text, ...))
end

string.sub = function(text, ...)
    local from, to = ...
    if type(text) == "string" and type(from) == "number" and (to == nil or type(to) == "number") then
        return made(sub(text, from, to))
    end
    return through("sub", raw_pcall(sub, text, ...))
end

for _, name in ipairs({ "lower", "upper", "reverse" }) do
    local raw = string[name]
    string[name] = function(text, ...)
        if type(text) == "string" then
            charge(#text / 16)
            return made(raw(text))
        end
        return through(name, raw_pcall(raw, text, ...))
    end
end

string.byte = function(text, ...)
    local from, to = ...
    if to == nil then return through("byte", raw_pcall(byte, text, ...)) end
    local n = (count_of(to, 0) - count_of(from, 1)) % (type(text) == "string" and #text + 1 or 1)
    charge(n / 4)
    return through("byte", raw_pcall(byte, text, ...))
end

local format = string.format
string.format = function(...)
    charge(16)
    return made(through("format", raw_pcall(format, ...)))
end

-- An element that makes room for another one, or takes its place.
local MOVED = 3 / 4

local counted = {
    concat = function(t, ...)
        local _, from, to = ...
        if type(t) == "table" then charge((count_of(to, #t) - count_of(from, 1)) / 4) end
        local ok, text = raw_pcall(concat, t, ...)
        return made(through("concat", ok, text))
    end,
    foreach = foreach,
    foreachi = function(t, f)
        if type(t) == "table" then charge(#t / 4) end
        return foreachi(t, f)
    end,
    insert = function(t, ...)
        if type(t) == "table" and select("#", ...) > 1 then charge((#t - count_of((...), 1)) * MOVED) end
        return through("insert", raw_pcall(insert, t, ...))
    end,
    maxn = function(t)
        if type(t) ~= "table" then return through("maxn", raw_pcall(maxn, t)) end
        local most, seen = 0, 0
        for key in raw_next, t do
            seen = seen + 1
            if type(key) == "number" and key > most then most = key end
        end
        charge(seen)
        return most
    end,
    remove = function(t, ...)
        if type(t) == "table" and select("#", ...) > 0 then charge((#t - count_of((...), 1)) * MOVED) end
        return through("remove", raw_pcall(remove, t, ...))
    end,
    sort = function(t, ...)
        local n = type(t) == "table" and #t or 0
        if n > 100 then charge(n * #raw_tostring(n) * 4) end
        return sort(t, ...)
    end,
}

local function counted_unpack(t, ...)
    if type(t) ~= "table" then error("bad argument #1 to 'unpack' (table expected, got " .. type(t) .. ")", 2) end
    local from, to = ...
    local n = count_of(to, #t) - count_of(from, 1) + 1
    if n >= 8000 then error("too many results to unpack", 2) end
    charge(n / 2)
    return unpack(t, ...)
end

-- Patterns ----------------------------------------------------------------------------------------------------------

local patterns = host.patterns
local step = patterns.step

-- `level`: 2 for an error where the caller of who calls this was called.
local function got(level, ok, ...)
    if ok then return ... end
    if (...) == NO_MEMORY then host.out_of_memory() end
    error((...), level + 1)
end

local function gmatch(...)
    local text, pattern = got(2, patterns.words("gmatch", ...))
    local at = 0
    local function keep(from, to, ...)
        if not from then return end
        at = to > from and to or to + 1
        return ...
    end
    return function() return keep(got(2, step(text, pattern, at, false))) end
end

-- The match's place, and what `by` makes of what it has captured.
local function replaced(by, from, to, ...)
    if not from then return end
    if type(by) == "table" then return from, to, by[(...)] end
    return from, to, (by(...))
end

local function gsub(...)
    local by = select(3, ...)
    if type(by) ~= "function" and type(by) ~= "table" then
        local text, count = got(2, patterns.substitute(...))
        return made(text), count
    end
    local text, pattern, most = got(2, patterns.words("gsub", ...))
    local anchored, pieces, count, at, done = byte(pattern, 1) == 94, {}, 0, 0, false
    most = most or #text + 1
    while count < most and not done do
        local from, to, value = replaced(by, got(2, step(text, pattern, at, true, type(by) == "table")))
        if not from then break end
        count = count + 1
        if not value then value = sub(text, from + 1, to) end
        if type(value) ~= "string" and type(value) ~= "number" then
            error("invalid replacement value (a " .. type(value) .. ")", 2)
        end
        pieces[#pieces + 1] = sub(text, at + 1, from)
        pieces[#pieces + 1] = value
        at, done = to, anchored
        if to == from then
            pieces[#pieces + 1] = sub(text, at + 1, at + 1)
            at, done = at + 1, anchored or at == #text
        end
    end
    pieces[#pieces + 1] = sub(text, at + 1)
    return made(concat(pieces)), count
end

string.find = function(...) return got(2, patterns.find(...)) end
string.match = function(...) return got(2, patterns.match(...)) end
string.gmatch, string.gfind, string.gsub = gmatch, gmatch, gsub

local visible = {
    _G = globals, _VERSION = _VERSION,
    assert = assert, error = error, ipairs = ipairs, rawequal = rawequal, rawget = rawget, select = select,
    tonumber = host.tonumber(tonumber), type = type, unpack = counted_unpack, pairs = pairs, next = next, tostring = tostring,
    pcall = pcall, xpcall = xpcall, loadstring = loadstring, load = load, getfenv = getfenv, setfenv = setfenv,
    -- The collector rests while a script runs, so that weak tables lose nothing; its figures would differ.
    collectgarbage = function() return 0 end,
    gcinfo = function() return 0 end,
    getmetatable = getmetatable,
    setmetatable = function(t, meta)
        if locked[t] then error(READONLY, 2) end
        return setmetatable(t, meta)
    end,
    rawset = function(t, key, value)
        if locked[t] then error(READONLY, 2) end
        return rawset(t, key, value)
    end,
    coroutine = lock(copy(coroutine, { resume = resume, wrap = wrap })),
    math = lock(copy(math, erring(math_of_host))),
    string = lock(copy(string, {})),
    table = lock(copy(table, counted)),
    redis = lock(redis),
}
for name, library in raw_pairs(libraries) do visible[name] = lock(erring(library)) end
for key, value in raw_pairs(visible) do globals[key] = value end
registering.redis = lock(library_redis)
-- Where source.rs finds it, whatever the environment of the code is.
string.__mark = MARK
lock(globals)

-- What the host calls -----------------------------------------------------------------------------------------------

local function begin() walk = NO_WALK end

-- Lua calls no handler when memory is short.
local function ended(ok, value)
    if not ok and value == NO_MEMORY then host.out_of_memory() end
    return ok, value
end

return {
    globals = globals,
    library_globals = library_globals,
    pairs = pairs,
    -- A script runs as xpcall(script, located), once `begin` has been called and its lists are in their places (raw.rs).
    begin = begin,
    xpcall = raw_xpcall,
    located = located,
    fcall = function(callback, keys, args)
        return ended(raw_xpcall(function() return callback(keys, args) end, located))
    end,
    -- Runs a library's code, which registers its functions.
    load = function(chunk)
        library_meta.__index = registering
        local ok, failure = raw_xpcall(chunk, located)
        library_meta.__index = globals
        return ended(ok, failure)
    end,
}
