-- Raises the tombstone and drops an older card. Answers 1 when raised, 0 when it stood there or higher already.
-- KEYS: card, tombstone. ARGV: version, sold out (0 or 1), life in milliseconds.
local function older(a, b) return #a < #b or (#a == #b and a < b) end

local raised = 0
local tombstone = redis.call('GET', KEYS[2])
if tombstone and not older(string.match(tombstone, '^%d+') or '0', ARGV[1]) then
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
else
    redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
    raised = 1
end
local card = redis.call('GET', KEYS[1])
if card and older(string.match(card, '^{"stockVersion":(%d+)') or '0', ARGV[1]) then
    redis.call('DEL', KEYS[1])
end
return raised
