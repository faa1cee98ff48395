// The Lua scripts of a limit. Each touches the keys of peers only: one, or in `release` several of one shard. Nodes of
// different versions share these keys, so what the scripts store must stay compatible.
//
// The token bucket is that of lib/tables/arithmetic.ts: the same statements in the same order, on IEEE doubles, so
// both return bit-identical results. Numbers are passed as strings of 17 digits, because the store truncates Lua's
// numbers to integers.
//
// A peer's key holds, packed: tokens, the time of the last refill, when the key expires (in milliseconds, plus a mark),
// violations, and the peer's leases (the node, the lease's number, its tokens, its end). Tokens and leased tokens together
// never exceed the burst. The state after the first check of a peer is one integer instead, because a store keeps that
// without a string: the time in microseconds and the cost in three digits, negative if the cost is held as a short lease.
// A script refuses a key that holds anything else, and does not change it.
//
// The first argument of every script is the latest time (the store's) at which the script may be executed. A script
// that reaches the store later, because it waited in a queue while the store was unreachable, replies `late` and
// changes nothing. After an outage the same argument holds five more numbers: when the store returned; how many
// tokens a bucket loses that was last used before that; for leases that the store has lost, until when they may
// hold all of the burst, and until when half of it; and by how many seconds, at least, the store's clock was set back.
//
// No time is later than now: the store's clock was set back if one is. An outage counts as now then. A bucket's times
// move back together, by as much as the clock was set back, or so that the last refill is now if that is not known.

import { createHash } from 'node:crypto';
import { FIRST_SPARE, LEASED_SHARE, type Limit, RENEWAL_SECONDS, ttlMs } from './limit.js';

export type ScriptName = 'strict' | 'first' | 'lease' | 'release' | 'read';

export interface Script {
  readonly text: string;
  readonly sha: string;
}

/** How the scripts learn the server's time. Tests replace it. */
export interface ScriptClock {
  /** Lua that sets `micros` and `now` to the time, in microseconds and in seconds. */
  readonly read: string;
  /** A Lua expression for a key's time to live, in ms. `expires`: a Lua expression for when it expires, in epoch ms. */
  readonly left: (key: string, expires: string) => string;
  /** A Lua statement that sets when a key expires. */
  readonly expire: (key: string, expires: string) => string;
}

const SERVER_CLOCK: ScriptClock = {
  read: `local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = micros / 1000000`,
  left: (key) => `redis.call('PTTL', ${key})`,
  expire: (key, expires) => `redis.call('PEXPIREAT', ${key}, string.format('%.0f', ${expires}))`,
};

/** The node of the short leases that hold the costs of first checks. No node has this number. */
const NO_NODE = 0;

// Refills step by step: at the end of each expired lease, when its tokens may be refilled again; when an outage took
// tokens; and when the capacity was raised. A refill in one step would grant again what was spent in between. Tables
// are created only if they get entries, since most peers of mode `strict` consist of three numbers. Other nodes may still
// have a higher burst and more on lease than this one allows: then nothing is refilled.
const REFILL = (to: string) => `
local seconds = 0
if ${to} > last then seconds = ${to} - last end
local refilled = tokens + seconds * RATE
local room = capacity - leased
if room < 0 then room = 0 end
if refilled < room then tokens = refilled else tokens = room end
last = ${to}
`;

/** The start of every script: reads the first argument, and replies `late` if it is too late to be executed. */
export const BEGIN = `
local latest, since, lost, empty, held, back = tonumber(ARGV[1])
if not latest then
  latest, since, lost, empty, held, back = string.match(ARGV[1], '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
  latest, since, lost = tonumber(latest), tonumber(since), tonumber(lost)
  empty, held, back = tonumber(empty), tonumber(held), tonumber(back)
  if since > now then
    local early = since - now
    since, empty, held = now, empty - early, held - early
  end
end
if now > latest then return {'late', string.format('%.17g', now)} end
`;

/** Added to the stored time of expiry, so that our states can be recognized. The sum is below 2 ** 53, so it is exact. */
const MARK = 46 * 2 ** 47;

// `key`: the peer's key. What it holds is in `state`. `refuse`: the statement for a key that is not ours. `early`: by how
// much the state's times are later than now.
const load = (key: string, refuse: string) => `
local tokens, last, expires, violations, leased, capacity = 0, -1e300, 0, 0, 0, BURST
local leases, events
local early = 0
if state then
  local held
  if type(state) == 'table' then ${refuse} end
  if #state >= 32 then
    tokens, last, expires, violations = struct.unpack('<dddd', state)
    expires = expires - ${MARK}
    if not (expires >= 0 and expires < ${2 ** 47}) or #state % 32 ~= 0 then ${refuse} end
  else
    local sign, at, cost = string.match(state, '^(-?)(%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d)(%d%d%d)$')
    if not at then ${refuse} end
    tokens, last = math.max(0, BURST - cost), at / 1000000
    if sign == '-' then held = cost + 0 end
    expires = math.floor(micros / 1000) + LEFT(${key}, math.floor(at / 1000) + FIRST_TTL)
  end
  if last > now then
    early = last - now
    if back and back > early then early = back end
    last = last - early
    expires = expires - math.floor(early * 1000)
  end
  if held or #state > 32 then
    leases, events = {}, {}
    for at = 33, #state, 32 do
      local holder, id, amount, ends = struct.unpack('<dddd', state, at)
      leases[#leases + 1] = {holder, id, amount, ends - early}
    end
    if held then leases[1] = {${NO_NODE}, 0, held, last + SHORT_LIFETIME} end
    local open = 0
    for at, lease in ipairs(leases) do
      leased = leased + lease[3]
      leases[at] = nil
      if lease[4] > now then
        open = open + 1
        leases[open] = lease
      else events[#events + 1] = {lease[4], lease[3], 0, 0} end
    end
  end
end
if since then
  events = events or {}
  if last < since then events[#events + 1] = {since, 0, lost, 0} end
  if held > since then
    capacity = 0
    if empty <= now then events[#events + 1] = {empty, 0, 0, BURST * (1 - LEASED_SHARE)} end
    if held <= now then events[#events + 1] = {held, 0, 0, BURST} end
  end
end
if events and events[1] then
  table.sort(events, function(a, b) return a[1] < b[1] end)
  for _, event in ipairs(events) do
    local ends = event[1]
    if ends > last then${REFILL('ends')}end
    leased = leased - event[2]
    if event[3] > 0 then tokens = math.max(0, tokens - event[3]) end
    capacity = math.max(capacity, event[4])
  end
end
${REFILL('now')}`;

const FOREIGN =
  "return redis.error_reply('WRONGTYPE relay-limiter found a key under its prefix that is not its own')";
const GET_KEY = "local state = redis.pcall('GET', KEYS[1])\n";
const LOAD = `
READ_CLOCK${BEGIN}${GET_KEY}${load('KEYS[1]', FOREIGN)}`;

// Renews the key's time to live if less than is needed would be left, by RENEWAL_SECONDS more than is needed: so a state
// that is used all the time is renewed only once in these seconds. It is never shortened: while a limit changes, nodes with
// the limit before it use the same keys, and leases of either may count on it. If the state's times were later than now,
// the time at which the key expires moves back with them, and is set anew.
const save = (key: string) => `
local nowMs, ttl = math.floor(micros / 1000), violations > 0 and OFFENDER_TTL or TTL
local isRenewed = early > 0 or expires < nowMs + ttl
if isRenewed then expires = math.max(expires, nowMs + ttl + ${RENEWAL_SECONDS * 1000}) end
local packed = struct.pack('<dddd', tokens, last, ${MARK} + expires, violations)
if leases then
  for _, lease in ipairs(leases) do packed = packed .. struct.pack('<dddd', unpack(lease)) end
end
if isRenewed then
  redis.call('SET', ${key}, packed)
  EXPIRE(${key}, expires)
else
  redis.call('SET', ${key}, packed, 'KEEPTTL')
end
`;

const SAVE = save('KEYS[1]');

// Takes `cost`. Replies the whole tokens that are left, as an integer; or, if they do not suffice, all digits of the
// tokens behind a letter: `d` for disconnect, `w` for wait. `hold`: statements for an allowed check.
const take = (hold: string) => `
local rest = tokens - cost
if rest < 0 then
  violations = violations + 1
  local verdict = violations >= THRESHOLD and 'd' or 'w'
  ${SAVE}
  return string.format('%s%.17g', verdict, tokens)
end
tokens = rest
${hold}${SAVE}
return WHOLE(tokens)`;

// ARGV[2]: the cost; without it 1.
const COST = `
local cost = (ARGV[2] or 1) + 0
`;

/** Stores the state after a first check as an integer, if the bucket is full and the cost has at most three digits. */
const first = (sign: '' | '-', condition: string) => `
if not since and ${condition}cost % 1 == 0 and cost <= FIRST_COST
  and redis.call('SET', KEYS[1], string.format('${sign}%010d%06d%03d', now - now % 1, micros % 1000000, cost),
    'PX', FIRST_TTL, 'NX') then
  return WHOLE(BURST - cost)
end
`;

// The fast path of most checks: allowed, of a known peer without leases, without an outage, whose key lives long enough.
const STRICT = `
READ_CLOCK${COST}${GET_KEY}if state and #state == 32 then
  local latest = tonumber(ARGV[1])
  local tokens, last, marked, violations = struct.unpack('<dddd', state)
  local left = marked - ${MARK} - micros / 1000
  local rest = tokens + (now - last) * RATE
  if rest > BURST then rest = BURST end
  rest = rest - cost
  if rest >= 0 and now >= last and latest and now <= latest
    and left >= (violations > 0 and OFFENDER_TTL or TTL) and left < ${2 ** 47} then
    redis.call('SET', KEYS[1], struct.pack('<dddd', rest, now, marked, violations), 'KEEPTTL')
    return WHOLE(rest)
  end
end
${BEGIN}${load('KEYS[1]', FOREIGN)}${first('', 'not state and ')}${take('')}`;

// A check of a peer that has no lease at the node. Its cost is held as a short lease that nobody returns: a node may
// admit the check until that ends, so it must not be refilled before. The end of such a lease is fixed when it begins, so
// that it comes however many first checks follow. It is half a lifetime later than the first of its checks needs: checks
// within that half add their costs to it, so a peer has at most three of them.
const FIRST = `
READ_CLOCK${BEGIN}${COST}${first('-', '')}${GET_KEY}${load('KEYS[1]', FOREIGN)}${take(`
leases = leases or {}
local ends = now + SHORT_LIFETIME
local mine
for at, lease in ipairs(leases) do
  if lease[1] == ${NO_NODE} and lease[4] >= ends then mine = at end
end
if mine then leases[mine][3] = leases[mine][3] + cost
else leases[#leases + 1] = {${NO_NODE}, 0, cost, ends + SHORT_LIFETIME * ${FIRST_SPARE}} end
`)}`;

// ARGV[2]: the node. `more`: violations to add.
const mine = (more: string) => `
local mine
leases = leases or {}
for at, lease in ipairs(leases) do
  if lease[1] == tonumber(ARGV[2]) then mine = at end
end
violations = violations + tonumber(${more})
`;

// ARGV[3], ARGV[4]: the number of the node's lease, and its unspent tokens. ARGV[6]: the number of the new lease.
// ARGV[7]: the least that is needed. ARGV[8]: the sum of all waiting costs. ARGV[9]: tokens wanted ahead of use.
//
// Tokens ahead of use are at most half of what may still be leased, so that other nodes get some. The node's lease
// becomes part of the new one. If more than half of the burst is on lease, the new lease is short: after a loss of all
// data the store can then wait until all such leases have ended.
const LEASE = `${mine('ARGV[5]')}
local function text(number) return string.format('%.17g', number) end
local known, left = tonumber(ARGV[3]), tonumber(ARGV[4])
local id, first, all, ahead = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
-- A node may have more than the store knows of: from before it lost everything, where an answer was lost
-- since. That does not go on. Each side adds up fractions in its own order.
local carried = mine and left <= leases[mine][3] + 1e-6 and 1 or 0
if mine and leases[mine][2] == known and left < leases[mine][3] then
  leased = leased - leases[mine][3] + left
  leases[mine][3] = left
end
local granted = 0
if tokens >= all then granted = all
elseif tokens >= first then granted = math.max(first, math.floor(tokens)) end
if granted >= all then
  local most = math.min(ahead, (BURST * LEASED_SHARE - leased - granted) / 2, tokens - granted)
  if most >= 1 then granted = granted + math.floor(most) end
end
local lifetime = LIFETIME
if leased + granted > BURST * LEASED_SHARE then lifetime = SHORT_LIFETIME end
if granted > 0 then
  tokens = tokens - granted
  mine = mine or #leases + 1
  local before = leases[mine] or {0, 0, 0, 0}
  leases[mine] = {tonumber(ARGV[2]), id, granted + before[3], math.max(before[4], now + lifetime)}
elseif mine and leases[mine][3] == 0 then
  table.remove(leases, mine)
end
${SAVE}
return {text(granted), carried, text(tokens), violations, text(lifetime)}`;

// Returns leases of one node (ARGV[2]). For each key three arguments: the number of the node's lease, its unspent tokens,
// which return to the bucket, and violations to add. A key that is not ours is passed over.
const RELEASE = `
READ_CLOCK${BEGIN}
for at, key in ipairs(KEYS) do
  repeat
    local state = redis.pcall('GET', key)
    ${load('key', 'break')}
    ${mine('ARGV[3 * at + 2]')}
    if mine and leases[mine][2] == tonumber(ARGV[3 * at]) then
      tokens = tokens + math.min(tonumber(ARGV[3 * at + 1]), leases[mine][3])
      table.remove(leases, mine)
    end
    ${save('key')}
  until true
end
return #KEYS`;

const READ = `
return {string.format('%.17g', tokens), violations}`;

const BODIES: Record<ScriptName, string> = {
  strict: STRICT,
  first: FIRST,
  lease: LOAD + LEASE,
  release: RELEASE,
  read: LOAD + READ,
};

/**
 * The script for one run of a server. After a restart no node's scripts are known to the server, even if other nodes
 * have loaded theirs: so no node mistakes a store that has lost its data for one that has everything.
 */
export function createScript(
  name: ScriptName,
  limit: Limit,
  runId: string,
  clock = SERVER_CLOCK,
): Script {
  // The store replies with 64-bit integers.
  const whole = limit.burstLimit > Number.MAX_SAFE_INTEGER ? 'math.min($1, 2 ^ 53)' : '$1';
  const numbers = numbersOf(limit);
  const body = BODIES[name]
    .replaceAll(/WHOLE\(([^)]*)\)/g, whole)
    .replaceAll(/\b[A-Z_]+\b/g, (word) => numbers[word] ?? word)
    .replace('READ_CLOCK', clock.read)
    .replaceAll(/LEFT\(([^,]*), (.*)\)$/gm, (_, key, expires) => clock.left(key, expires))
    .replaceAll(/EXPIRE\(([^,]*), (.*)\)$/gm, (_, key, expires) => clock.expire(key, expires));
  const text = `-- ${runId}${body}\n`;
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

/** The limit's numbers as Lua source, by their names in the scripts. Lua reads them as the same doubles. */
function numbersOf(limit: Limit): Readonly<Record<string, string>> {
  const { rateLimit, burstLimit, disconnectThreshold, leaseSeconds } = limit;
  return {
    RATE: String(rateLimit),
    BURST: String(burstLimit),
    THRESHOLD: disconnectThreshold === null ? 'math.huge' : String(disconnectThreshold),
    LIFETIME: String(leaseSeconds),
    SHORT_LIFETIME: String(limit.shortLeaseSeconds),
    LEASED_SHARE: String(LEASED_SHARE),
    FIRST_COST: String(Math.min(Math.floor(burstLimit), 999)),
    FIRST_TTL: `'${ttlMs(limit)}'`,
    TTL: String(ttlMs(limit)),
    OFFENDER_TTL: String(ttlMs(limit, { isOffender: true })),
  };
}
