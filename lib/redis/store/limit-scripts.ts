// The scripts that run in the store: Lua, one key each. The token bucket is that of
// lib/engine/js/arithmetic.ts: same statements, same order, IEEE doubles, so the same answers to the
// last bit. Numbers go in and out as text of 17 digits, since a store cuts Lua's to integers.
//
// A peer's key holds, packed: tokens, when they were refilled, violations, and its leases (who holds it,
// its number, how many tokens, until when). Tokens and leased tokens together never exceed the burst.
// Whatever else lies under a key is somebody else's: it is refused, and left as it is.
//
// Every script is told the latest time (the store's) at which it may still run: one that waited in a
// queue while the store was away is answered `late`, and changes nothing. After a time when the store was
// away the same argument says since when it is back, what a bucket that was last used before then has lost,
// and, of leases that the store does not know: until when all of the burst may be on them, and until when half.

import { createHash } from 'node:crypto';

/** The limit that scripts are written for. */
export interface Limit {
  readonly rateLimit: number;
  readonly burstLimit: number;
  readonly disconnectThreshold: number | null;
  readonly leaseSeconds: number;
  /** How long a lease holds if more than half of the burst is on lease with it; at most `leaseSeconds`. */
  readonly dearSeconds: number;
}

export type ScriptName = 'strict' | 'lease' | 'leave' | 'look';

export interface Script {
  readonly name: ScriptName;
  readonly limit: Limit;
  readonly text: string;
  readonly sha: string;
}

/** Seconds for which violations are remembered after the last check. */
export const VIOLATIONS_SECONDS = 3600;
/** How long a key of a full bucket stays beyond its use. Longer than clocks and timers are coarse. */
const SPARE_SECONDS = 1;
const MOST_TTL_MS = 1e14;

/** The share of the burst that may be on lease for long. */
export const LEASED_SHARE = 0.5;
const DEAR_SECONDS = 0.5;

const READ_CLOCK = `local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000`;

// Expired leases give their room back at the time they end, tokens are lost at the time a node says, and so
// is the capacity raised: a refill in one piece would grant again what was spent in between. Tables are made only where there
// is something to put in them, since most peers of mode `strict` are three numbers.
const REFILL = (to: string) => `
local seconds = 0
if ${to} > last then seconds = ${to} - last end
local refilled = tokens + seconds * RATE
local room = capacity - leased
if refilled < room then tokens = refilled else tokens = room end
last = ${to}
`;

const LOAD = `
local latest, since, lost, empty, held = tonumber(ARGV[1])
if not latest then
  latest, since, lost, empty, held = string.match(ARGV[1], '(%S+) (%S+) (%S+) (%S+) (%S+)')
  latest, since, lost = tonumber(latest), tonumber(since), tonumber(lost)
  empty, held = tonumber(empty), tonumber(held)
end
if now > latest then return {'late', string.format('%.17g', now)} end
local tokens, last, violations, leased, capacity = 0, -1e300, 0, 0, BURST
local leases, events
local state = redis.call('GET', KEYS[1])
if state then
  if string.sub(state, 1, 4) ~= 'rlb1' then
    return redis.error_reply('WRONGTYPE relay-limiter found a key under its prefix that is not its own')
  end
  tokens, last, violations = struct.unpack('<ddd', state, 5)
  if #state > 28 then
    leases, events = {}, {}
    for at = 29, #state, 32 do
      local holder, id, amount, ends = struct.unpack('<dddd', state, at)
      leased = leased + amount
      if ends > now then leases[#leases + 1] = {holder, id, amount, ends}
      else events[#events + 1] = {ends, amount, 0, 0} end
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

const SAVE = `
local packed = struct.pack('<c4ddd', 'rlb1', tokens, last, violations)
if leases then
  for _, lease in ipairs(leases) do packed = packed .. struct.pack('<dddd', unpack(lease)) end
end
redis.call('SET', KEYS[1], packed, 'PX', violations > 0 and OFFENDER_TTL or TTL)
`;

// Replies 1 for allow, 0 for disconnect, the seconds to wait otherwise: with an exponent, since to some
// clients numbers are texts.
const STRICT = `
local cost = tonumber(ARGV[2])
local reply = 1
if tokens >= cost then
  tokens = tokens - cost
else
  violations = violations + 1
  if violations >= THRESHOLD then reply = 0
  elseif cost > BURST then reply = 'inf'
  else reply = string.format('%.16e', (cost - tokens) / RATE) end
end
${SAVE}
return reply`;

const MINE = `
local function text(number) return string.format('%.17g', number) end
local mine
leases = leases or {}
for at, lease in ipairs(leases) do
  if lease[1] == tonumber(ARGV[2]) then mine = at end
end
violations = violations + tonumber(ARGV[5])
`;

// The node says what is left of its lease, and what it needs: at least the first cost, if it can be all
// the costs, and more ahead of use. What is ahead of use is half of what may still be leased, so that others get
// theirs. The lease it has goes on as part of the new one. Where more than half is on lease the new one is
// short: a store that has lost everything can wait until all such are over.
const LEASE = `${MINE}
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
if leased + granted > BURST * LEASED_SHARE then lifetime = DEAR_LIFETIME end
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

// The peer has left the node: what is left of its lease comes back.
const LEAVE = `${MINE}
if mine and leases[mine][2] == tonumber(ARGV[3]) then
  local left = math.min(tonumber(ARGV[4]), leases[mine][3])
  tokens = tokens + left
  table.remove(leases, mine)
end
${SAVE}
return violations`;

const LOOK = `
return {string.format('%.17g', tokens), violations}`;

const BODIES: Record<ScriptName, string> = {
  strict: STRICT,
  lease: LEASE,
  leave: LEAVE,
  look: LOOK,
};

/**
 * A script as one run of a server knows it: with a restart its name is known no more, to no node, however
 * fast the others are to load their own again. So nobody takes an empty store for one that has everything.
 * `clock`: the Lua that sets \`now\`; tests have their own.
 */
export function script(name: ScriptName, limit: Limit, run: string, clock = READ_CLOCK): Script {
  const text = `-- ${run}\n${clock}\n${constants(limit)}${LOAD}${BODIES[name]}\n`;
  return { name, limit, text, sha: createHash('sha1').update(text).digest('hex') };
}

/** Seconds after which a node that says nothing is taken for gone. */
const GONE_SECONDS = 15;

/** By which the nodes' key is known to be ours: a member that is no node, and never goes. */
const MARK = 'relay-limiter';

/**
 * A node's sign of life, under a key of its part of the store. It replies which run of which server this
 * is, for how many seconds it has run (-1 if that must not be asked), the time there, and how many
 * nodes there are. It writes, so a store that takes no writes does not pass for one that works.
 */
export const BEAT = `${READ_CLOCK}
local info = redis.pcall('INFO', 'server')
local run, uptime = 'unknown', -1
if type(info) == 'string' then
  run = string.match(info, 'run_id:(%x+)') or run
  uptime = tonumber(string.match(info, 'uptime_in_seconds:(%d+)')) or uptime
end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and not (kind == 'zset' and redis.call('ZSCORE', KEYS[1], '${MARK}')) then
  return redis.error_reply('WRONGTYPE a key under the prefix of relay-limiter is not its own')
end
redis.call('ZADD', KEYS[1], 'inf', '${MARK}', now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ${GONE_SECONDS})
redis.call('EXPIRE', KEYS[1], ${4 * GONE_SECONDS})
return {run, uptime, string.format('%.17g', now), redis.call('ZCARD', KEYS[1]) - 1}
`;

/** A node says good-bye. */
export const BYE = "return redis.call('ZREM', KEYS[1], ARGV[1])";

/** The limit's numbers as Lua: a store reads them as the doubles they are. */
function constants(limit: Limit): string {
  const { rateLimit, burstLimit, disconnectThreshold, leaseSeconds } = limit;
  const values: Record<string, string> = {
    RATE: String(rateLimit),
    BURST: String(burstLimit),
    THRESHOLD: disconnectThreshold === null ? 'math.huge' : String(disconnectThreshold),
    LIFETIME: String(leaseSeconds),
    DEAR_LIFETIME: String(limit.dearSeconds),
    LEASED_SHARE: String(LEASED_SHARE),
    TTL: `'${ttlMs(limit, 0)}'`,
    OFFENDER_TTL: `'${ttlMs(limit, 1)}'`,
  };
  return Object.entries(values)
    .map(([name, value]) => `local ${name} = ${value}`)
    .join('\n');
}

/**
 * The lifetimes of leases, at least twice the deadline. A lease counts from when it was asked for: a shorter one
 * can be over when its answer arrives, or when a check is made again as its DELAY says, one deadline later.
 */
export function leaseTimes(
  leaseSeconds: number,
  deadlineSeconds: number,
): Pick<Limit, 'leaseSeconds' | 'dearSeconds'> {
  const least = Math.min(2 * deadlineSeconds, Number.MAX_VALUE);
  const longest = Math.max(leaseSeconds, least);
  return { leaseSeconds: longest, dearSeconds: Math.min(Math.max(DEAR_SECONDS, least), longest) };
}

/** Seconds after which a bucket is full that nobody has used, whatever was on lease: then it need not be kept. */
export function fullSeconds({ rateLimit, burstLimit, leaseSeconds }: Limit): number {
  return leaseSeconds + burstLimit / rateLimit;
}

/** How long a key is kept after its last use. */
export function ttlMs(limit: Limit, violations: number): number {
  const seconds = Math.max(fullSeconds(limit), violations > 0 ? VIOLATIONS_SECONDS : 0);
  return Math.min(Math.ceil((seconds + SPARE_SECONDS) * 1000), MOST_TTL_MS);
}
