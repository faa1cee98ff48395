// The Lua scripts of a SharedRuleLimiter. All its keys have one hash tag, so one script decides about all rules of a check.
//
// A bucket is one rule's, of one key. As in RuleLimiter it counts the tokens that are used, not those that are left, so
// plans with other numbers can ask the same bucket. Tokens on lease count as used. The key holds, packed: used tokens, the
// time of the last refill, the slowest rate, and the leases (the node, the lease's number, its tokens, its end). A bucket
// without used tokens has no key. The numbers of a rule come with each call.
//
// A key expires when the bucket is full again for every plan and every process that has asked it: by the slowest rate of all
// plans, which comes with each call, and of all calls since the key exists. A call with a slower one writes the key again.
//
// The key of an offender holds what leads to bans: violations, their level and its time, the ban level, and when the last
// ban began and ends. Bans themselves are in SharedBans.
//
// Refills, losses of data, late calls and clocks that are set back are treated as in limit-scripts.ts. Only the tokens that a
// bucket loses after an outage are given as seconds of its refill, because rules have different rates.

import { createHash } from 'node:crypto';
import { READ_CLOCK } from '../store/heartbeat-scripts.js';
import { LEASED_SHARE } from '../store/limit.js';
import { BEGIN, type Script } from '../store/limit-scripts.js';

export type RuleScriptName = 'check' | 'peek' | 'settle' | 'release' | 'punish';

/** Seconds for which a key is kept longer than it is needed. */
export const SPARE_SECONDS = 1;
export const MAX_TTL_MS = 1e14;
/** A ban that has begun so recently may not be known everywhere: what others refuse meanwhile is no violation. */
export const NOTICE_SECONDS = 1;
/** Seconds for which violations are kept after the last one. */
export const VIOLATIONS_SECONDS = 3600;
/** Seconds after the end of a ban for which its ban level is kept, at most. */
export const MEMORY_SECONDS = 30 * 86_400;
/** The longest ban in seconds, which means for ever. */
export const FOREVER_SECONDS = 1e11;

const FOREIGN =
  "redis.error_reply('WRONGTYPE relay-limiter found a key under its prefix that is not its own')";

const COMMON = `${BEGIN}
local function text(number) return string.format('%.17g', number) end
local function ttl(seconds)
  return string.format('%.0f', math.min(math.ceil((seconds + ${SPARE_SECONDS}) * 1000), ${MAX_TTL_MS}))
end
`;

// Returns nil for a key that is not ours. Used tokens never fall below what is on lease, and, after a loss of data, not
// below what may be on lease besides.
const BUCKETS = `${COMMON}
local function load(key, rate, burst, slowest)
  local bucket = {used = 0, last = -1e300, leased = 0, leases = {}, slowest = slowest}
  local capacity, events = burst, {}
  local state = redis.pcall('GET', key)
  if state then
    if type(state) == 'table' or string.sub(state, 1, 4) ~= 'rlr1' then return nil end
    local stored
    bucket.isStored = true
    bucket.used, bucket.last, stored = struct.unpack('<ddd', state, 5)
    if slowest < stored then bucket.isChanged = true else bucket.slowest = stored end
    local early = 0
    if bucket.last > now then
      early = bucket.last - now
      if back and back > early then early = back end
      bucket.last = bucket.last - early
      bucket.isChanged = true
    end
    for at = 29, #state, 32 do
      local holder, id, amount, ends = struct.unpack('<dddd', state, at)
      ends = ends - early
      bucket.leased = bucket.leased + amount
      if ends > now then bucket.leases[#bucket.leases + 1] = {holder, id, amount, ends}
      else
        events[#events + 1] = {ends, amount, 0, 0}
        bucket.isChanged = true
      end
    end
  end
  if since then
    bucket.isChanged = true
    if bucket.last < since then events[#events + 1] = {since, 0, lost * rate, 0} end
    if held > since then
      capacity = 0
      if empty <= now then events[#events + 1] = {empty, 0, 0, burst * ${1 - LEASED_SHARE}} end
      if held <= now then events[#events + 1] = {held, 0, 0, burst} end
    end
  end
  local function refill(to)
    if to > bucket.last then
      bucket.used = bucket.used - (to - bucket.last) * rate
      bucket.last = to
    end
    local floor = bucket.leased
    if capacity < burst then floor = math.max(floor, burst - math.max(0, capacity - floor)) end
    if not (bucket.used > floor) then bucket.used = floor end
  end
  table.sort(events, function(a, b) return a[1] < b[1] end)
  for _, event in ipairs(events) do
    if event[1] > bucket.last then refill(event[1]) end
    bucket.leased = bucket.leased - event[2]
    if event[3] > 0 then bucket.used = math.max(bucket.used, math.min(burst, bucket.used + event[3])) end
    capacity = math.max(capacity, event[4])
  end
  if #bucket.leases == 0 then bucket.leased = 0 end
  refill(now)
  return bucket
end
local function save(key, bucket, lifetime)
  if bucket.used == 0 and #bucket.leases == 0 then
    if bucket.isStored then redis.call('DEL', key) end
    return
  end
  local packed = struct.pack('<c4ddd', 'rlr1', bucket.used, bucket.last, bucket.slowest)
  for _, lease in ipairs(bucket.leases) do packed = packed .. struct.pack('<dddd', unpack(lease)) end
  local seconds = bucket.used / bucket.slowest
  if #bucket.leases > 0 then seconds = seconds + lifetime end
  redis.call('SET', key, packed, 'PX', ttl(seconds))
end
local function leaseOf(bucket, node)
  for at, lease in ipairs(bucket.leases) do if lease[1] == node then return lease, at end end
end
-- The node says what is left of its lease. The rest is spent, so it may be refilled from now on.
local function report(bucket, mine, left)
  if left >= mine[3] then return end
  bucket.leased = bucket.leased - mine[3] + left
  mine[3] = left
  bucket.isChanged = true
end
`;

// ARGV: the node (2), the number of its new leases (3, 0 if it does not lease), and the lifetimes of leases (4) and of short
// ones (5). Then for each key: rate, burst and slowest rate, whether the rule is on dry run, whether the node gives back what
// it has left, the number of its lease and what is left of it, the cost, and the tokens to lease: at least, and at most.
//
// A node that leases may admit the check later than now, so the cost is part of its lease: it is not refilled before the
// lease has ended, or the node has asked again.
//
// All rules but those on dry run allow the check, or none takes anything. Replies a or r, and for each key the tokens used
// before the check, those leased now, whether what the node has left is part of that, and the lifetime of the lease.
const CHECK = `${BUCKETS}
local node, id = tonumber(ARGV[2]), tonumber(ARGV[3])
local lifetime, short = tonumber(ARGV[4]), tonumber(ARGV[5])
local buckets, isAllowed = {}, true
for i, key in ipairs(KEYS) do
  local rate, burst, slowest, dry, back, known, left, cost, least, most = string.match(ARGV[5 + i],
    '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
  burst = tonumber(burst)
  local bucket = load(key, tonumber(rate), burst, tonumber(slowest))
  if not bucket then return ${FOREIGN} end
  buckets[i] = bucket
  bucket.burst, bucket.isDry = burst, dry == '1'
  bucket.cost, bucket.least, bucket.most = tonumber(cost), tonumber(least), tonumber(most)
  local mine, at = leaseOf(bucket, node)
  left = tonumber(left)
  -- A node may have more than the store knows of: from before it lost everything, where an answer was lost since.
  bucket.carried = mine and left <= mine[3] + 1e-6 and 1 or 0
  if mine and mine[2] == tonumber(known) then
    if back == '1' then
      bucket.leased = bucket.leased - mine[3]
      bucket.used = math.max(bucket.leased, bucket.used - math.min(left, mine[3]))
      table.remove(bucket.leases, at)
      if #bucket.leases == 0 then bucket.leased = 0 end
      bucket.isChanged = true
    else
      report(bucket, mine, left)
    end
  end
  bucket.fits = bucket.used + bucket.cost + bucket.least <= burst
  if not bucket.fits and not bucket.isDry then isAllowed = false end
end
local words = {isAllowed and 'a' or 'r'}
for i, key in ipairs(KEYS) do
  local bucket = buckets[i]
  local before, granted, seconds = bucket.used, 0, lifetime
  if bucket.fits and (isAllowed or bucket.isDry) then
    if bucket.cost > 0 then
      bucket.used = math.min(bucket.used + bucket.cost, 9007199254740992)
      bucket.isChanged = true
    end
    granted = bucket.least
    local held = id > 0 and bucket.cost or 0
    local room = bucket.burst * ${LEASED_SHARE} - bucket.leased - held - granted
    local more = math.min(bucket.most, room / 2, bucket.burst - bucket.used - granted)
    if more >= 1 then granted = granted + math.floor(more) end
    if held + granted > 0 then
      if granted == 0 or bucket.leased + held + granted > bucket.burst * ${LEASED_SHARE} then seconds = short end
      local mine, at = leaseOf(bucket, node)
      local lease = {node, id, held + granted, now + seconds}
      if mine then lease[3], lease[4] = lease[3] + mine[3], math.max(mine[4], lease[4]) end
      bucket.leases[at or #bucket.leases + 1] = lease
      bucket.used = bucket.used + granted
      bucket.isChanged = true
    end
  end
  if bucket.isChanged then save(key, bucket, lifetime) end
  words[#words + 1] = text(before)
  words[#words + 1] = text(granted)
  words[#words + 1] = bucket.carried
  words[#words + 1] = text(seconds)
end
return table.concat(words, ' ')`;

// Changes nothing. ARGV: the node (2), and for each key rate, burst and slowest rate. Replies for each key the tokens used,
// with those on lease, and the number and the tokens of the node's lease, of which only the node knows how much is spent.
const PEEK = `${BUCKETS}
local words = {}
for i, key in ipairs(KEYS) do
  local rate, burst, slowest = string.match(ARGV[2 + i], '(%S+) (%S+) (%S+)')
  local bucket = load(key, tonumber(rate), tonumber(burst), tonumber(slowest))
  if not bucket then return ${FOREIGN} end
  local _, id, amount = unpack(leaseOf(bucket, tonumber(ARGV[2])) or {0, 0, 0})
  words[#words + 1] = text(bucket.used)
  words[#words + 1] = text(id)
  words[#words + 1] = text(amount)
end
return table.concat(words, ' ')`;

// Takes costs without asking, or gives them back if they are negative. ARGV: the node (2), the lifetime of leases (3), and
// for each key rate, burst, slowest rate, the number of the node's lease and what is left of it, and the cost. What is spent
// of the lease can be given back only if the store knows that it is spent.
const SETTLE = `${BUCKETS}
for i, key in ipairs(KEYS) do
  local rate, burst, slowest, known, left, cost = string.match(ARGV[3 + i], '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
  local bucket = load(key, tonumber(rate), tonumber(burst), tonumber(slowest))
  if not bucket then return ${FOREIGN} end
  local mine = leaseOf(bucket, tonumber(ARGV[2]))
  if mine and mine[2] == tonumber(known) then report(bucket, mine, tonumber(left)) end
  bucket.used = math.min(math.max(bucket.leased, bucket.used + cost), 9007199254740992)
  save(key, bucket, tonumber(ARGV[3]))
end
return #KEYS`;

// Returns leases of one node. ARGV: the node (2), the lifetime of leases (3), and for each key rate, burst, slowest rate, the
// number of the lease and its unspent tokens. A key that is not ours is passed over.
const RELEASE = `${BUCKETS}
for i, key in ipairs(KEYS) do
  local rate, burst, slowest, known, left = string.match(ARGV[3 + i], '(%S+) (%S+) (%S+) (%S+) (%S+)')
  local bucket = load(key, tonumber(rate), tonumber(burst), tonumber(slowest))
  local mine, at
  if bucket then mine, at = leaseOf(bucket, tonumber(ARGV[2])) end
  if mine and mine[2] == tonumber(known) then
    bucket.leased = bucket.leased - mine[3]
    table.remove(bucket.leases, at)
    if #bucket.leases == 0 then bucket.leased = 0 end
    bucket.used = math.max(bucket.leased, bucket.used - math.min(tonumber(left), mine[3]))
    save(key, bucket, tonumber(ARGV[3]))
  end
end
return #KEYS`;

// Counts violations of offenders. ARGV for each key, from 2: their number; the violations and the seconds of the policy, its
// jitter, a random number, the seconds after which a ban level is forgotten, and the lengths of bans. Replies for each key
// the length of the ban that begins, or 0, and the violations so far.
const PUNISH = `${COMMON}
local words = {}
for i, key in ipairs(KEYS) do
  local given = {}
  for word in string.gmatch(ARGV[1 + i], '%S+') do given[#given + 1] = tonumber(word) end
  local number, violations, within, jitter, random, forget = unpack(given, 1, 6)
  local total, level, levelAt, banLevel, began, ends = 0, 0, now, 0, -1e300, -1e300
  local state = redis.pcall('GET', key)
  local isForeign = state and (type(state) == 'table' or string.sub(state, 1, 4) ~= 'rlo1')
  local length = 0
  if state and not isForeign then
    total, level, levelAt, banLevel, began, ends = struct.unpack('<dddddd', state, 5)
    local early = math.max(levelAt, began) - now
    if early > 0 then levelAt, began, ends = levelAt - early, began - early, ends - early end
  end
  if not isForeign and not (now < ends and now < began + ${NOTICE_SECONDS}) then
    total = math.min(total + number, 9007199254740991)
    level = math.max(0, level - (now - levelAt) * (violations / within)) + number
    levelAt = now
    if level >= violations then
      level = 0
      if now > ends then banLevel = math.max(0, banLevel - math.floor((now - ends) / forget)) end
      local step = given[math.min(7 + banLevel, #given)]
      length = step * (1 + jitter * (2 * random - 1))
      banLevel, began, ends = banLevel + 1, now, now + length
    end
    local memory = math.max(0, ends - now) + math.min(forget * banLevel, ${MEMORY_SECONDS})
    if banLevel == 0 then memory = 0 end
    local seconds = math.max(${VIOLATIONS_SECONDS}, within, memory)
    redis.call('SET', key, struct.pack('<c4dddddd', 'rlo1', total, level, levelAt, banLevel, began, ends), 'PX', ttl(seconds))
  end
  words[#words + 1] = text(length)
  words[#words + 1] = text(total)
end
return table.concat(words, ' ')`;

export const RULE_SCRIPTS: Readonly<Record<RuleScriptName, string>> = {
  check: CHECK,
  peek: PEEK,
  settle: SETTLE,
  release: RELEASE,
  punish: PUNISH,
};

/** The script for one run of a server; see `createScript`. `readClock`: the Lua that sets \`now\`; tests replace it. */
export function createRuleScript(
  name: RuleScriptName,
  runId: string,
  readClock = READ_CLOCK,
): Script {
  const text = `-- ${runId}\n${readClock}\n${RULE_SCRIPTS[name]}\n`;
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}
