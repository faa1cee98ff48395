// The Lua scripts of a limit. Each touches the keys of peers only: one, or in `release` several of one shard. Nodes of
// different versions share these keys, so what the scripts store must stay compatible.
//
// The token bucket is that of lib/tables/arithmetic.ts: the same statements in the same order, on IEEE doubles, so
// both return bit-identical results. Numbers are passed as strings of 17 digits, because the store truncates Lua's
// numbers to integers.
//
// A peer's key holds, packed: tokens, the time of the last refill, violations, and the peer's leases (the node, the
// lease's number, its tokens, its end). Tokens and leased tokens together never exceed the burst. A script refuses a
// key that holds anything else, and does not change it.
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
import { READ_CLOCK } from './heartbeat-scripts.js';
import { LEASED_SHARE, type Limit, ttlMs } from './limit.js';

export type ScriptName = 'strict' | 'lease' | 'release' | 'read';

export interface Script {
  readonly text: string;
  readonly sha: string;
}

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

/** Lua that reads the first argument, and ends a script that comes too late. */
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

// `key`: the peer's key. `refuse`: the statement for a key that is not ours.
const load = (key: string, refuse: string) => `
local tokens, last, violations, leased, capacity = 0, -1e300, 0, 0, BURST
local leases, events
local state = redis.pcall('GET', ${key})
if state then
  if type(state) == 'table' or string.sub(state, 1, 4) ~= 'rlb1' then ${refuse} end
  tokens, last, violations = struct.unpack('<ddd', state, 5)
  local early = 0
  if last > now then
    early = last - now
    if back and back > early then early = back end
    last = last - early
  end
  if #state > 28 then
    leases, events = {}, {}
    for at = 29, #state, 32 do
      local holder, id, amount, ends = struct.unpack('<dddd', state, at)
      ends = ends - early
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

const LOAD =
  BEGIN +
  load(
    'KEYS[1]',
    "return redis.error_reply('WRONGTYPE relay-limiter found a key under its prefix that is not its own')",
  );

const save = (key: string) => `
local packed = struct.pack('<c4ddd', 'rlb1', tokens, last, violations)
if leases then
  for _, lease in ipairs(leases) do packed = packed .. struct.pack('<dddd', unpack(lease)) end
end
redis.call('SET', ${key}, packed, 'PX', violations > 0 and OFFENDER_TTL or TTL)
`;

const SAVE = save('KEYS[1]');

// ARGV[2]: the cost. Replies the tokens that are left, behind a letter: `a` for allow, `d` for disconnect, `w` for wait.
const STRICT = `
local cost = tonumber(ARGV[2])
local verdict = 'a'
if tokens >= cost then
  tokens = tokens - cost
else
  violations = violations + 1
  verdict = violations >= THRESHOLD and 'd' or 'w'
end
${SAVE}
return string.format('%s%.17g', verdict, tokens)`;

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

// Returns leases of one node (ARGV[2]). For each key three arguments: the number of the node's lease, its unspent tokens,
// which return to the bucket, and violations to add. A key that is not ours is passed over.
const RELEASE = `${BEGIN}
for at, key in ipairs(KEYS) do
  repeat
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
  strict: LOAD + STRICT,
  lease: LOAD + LEASE,
  release: RELEASE,
  read: LOAD + READ,
};

/**
 * The script for one run of a server. After a restart no node's scripts are known to the server, even if other nodes
 * have loaded theirs: so no node mistakes a store that has lost its data for one that has everything.
 * `readClock`: the Lua that sets \`now\`; tests replace it.
 */
export function createScript(
  name: ScriptName,
  limit: Limit,
  runId: string,
  readClock = READ_CLOCK,
): Script {
  const text = `-- ${runId}\n${readClock}\n${constants(limit)}${BODIES[name]}\n`;
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

/** The limit's numbers as Lua source. Lua reads them as the same doubles. */
function constants(limit: Limit): string {
  const { rateLimit, burstLimit, disconnectThreshold, leaseSeconds } = limit;
  const values: Record<string, string> = {
    RATE: String(rateLimit),
    BURST: String(burstLimit),
    THRESHOLD: disconnectThreshold === null ? 'math.huge' : String(disconnectThreshold),
    LIFETIME: String(leaseSeconds),
    DEAR_LIFETIME: String(limit.shortLeaseSeconds),
    LEASED_SHARE: String(LEASED_SHARE),
    TTL: `'${ttlMs(limit, 0)}'`,
    OFFENDER_TTL: `'${ttlMs(limit, 1)}'`,
  };
  return Object.entries(values)
    .map(([name, value]) => `local ${name} = ${value}`)
    .join('\n');
}
