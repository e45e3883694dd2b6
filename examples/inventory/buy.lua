#!lua
-- Sells pieces of an item, if so many are in stock, and records the sale.
--
-- KEYS: the stock (a number), the sales (a stream), the request's answer (a string)
-- ARGV: the request's number, the buyer, how many pieces, for how many seconds the answer is kept
local stock, sales, answered = KEYS[1], KEYS[2], KEYS[3]
local request, buyer, pieces, keep_s = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

-- Asked again, because the client could not know what became of its first attempt: the same answer, and nothing is sold.
local earlier = redis.call('GET', answered)
if earlier then return earlier end

local answer = 'sold out'
if tonumber(redis.call('GET', stock) or '0') >= pieces then
    redis.call('DECRBY', stock, pieces)
    answer = redis.call('XADD', sales, '*', 'request', request, 'buyer', buyer, 'pieces', pieces)
end
redis.call('SET', answered, answer, 'EX', keep_s)
return answer
