#!lua
-- Adds points to a player's score and records why.
--
-- KEYS: the board (a sorted set), its history (a stream), the request's answer (a string)
-- ARGV: the request's number, the player, the points, for how many seconds the answer is kept
local board, history, answered = KEYS[1], KEYS[2], KEYS[3]
local request, player, points, keep_s = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- Asked again, because the client could not know what became of its first attempt: the same answer, and nothing is added.
local earlier = redis.call('GET', answered)
if earlier then return earlier end

local score = redis.call('ZINCRBY', board, points, player)
redis.call('XADD', history, '*', 'request', request, 'player', player, 'points', points)
redis.call('SET', answered, score, 'EX', keep_s)
return score
