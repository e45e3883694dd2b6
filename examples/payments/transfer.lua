#!lua
-- Moves an amount from one account to another, if there is enough, and keeps a journal of it.
--
-- KEYS: the balances (a hash), the journal (a stream), the request's answer (a string)
-- ARGV: the request's number, from, to, the amount, for how many seconds the answer is kept
local balances, journal, answered = KEYS[1], KEYS[2], KEYS[3]
local request, from, to, amount, keep_s = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]

-- Asked again, because the client could not know what became of its first attempt: the same answer, and nothing is done.
local earlier = redis.call('GET', answered)
if earlier then return earlier end

local balance = tonumber(redis.call('HGET', balances, from) or '0')
local answer
if balance < amount then
    answer = 'refused'
else
    redis.call('HINCRBY', balances, from, -amount)
    redis.call('HINCRBY', balances, to, amount)
    answer = redis.call('XADD', journal, '*', 'request', request, 'from', from, 'to', to, 'amount', amount)
end
redis.call('SET', answered, answer, 'EX', keep_s)
return answer
