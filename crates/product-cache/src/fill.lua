-- Stores a card unless the tombstone or the card already there is newer. Answers 1 when stored, 0 when refused.
-- KEYS: card, tombstone. ARGV: version, card, life in milliseconds.
-- Versions are compared as decimal text: a Lua number would round above 2^53.
local function older(a, b) return #a < #b or (#a == #b and a < b) end

local tombstone = redis.call('GET', KEYS[2])
if tombstone and older(ARGV[1], string.match(tombstone, '^%d+') or '0') then return 0 end
local card = redis.call('GET', KEYS[1])
if card and older(ARGV[1], string.match(card, '^{"stockVersion":(%d+)') or '0') then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
