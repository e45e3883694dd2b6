-- A leaderboard's update, and nothing else. KEYS: the board, its history; ARGV: the player, the score.
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return redis.call('XADD', KEYS[2], '*', 'player', ARGV[1], 'score', ARGV[2])
