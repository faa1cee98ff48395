// The Lua scripts of a limit. Each touches one key, that of one peer. Nodes of different versions share these keys, so
// what the scripts store must stay compatible.
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
// changes nothing. After an outage the same argument holds four more numbers: when the store returned; how many
// tokens a bucket loses that was last used before that; and, for leases that the store has lost, until when they may
// hold all of the burst, and until when half of it.

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
// are created only if they get entries, since most peers of mode `strict` consist of three numbers.
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

// ARGV[2]: the node. ARGV[5]: violations to add.
const MINE = `
local function text(number) return string.format('%.17g', number) end
local mine
leases = leases or {}
for at, lease in ipairs(leases) do
  if lease[1] == tonumber(ARGV[2]) then mine = at end
end
violations = violations + tonumber(ARGV[5])
`;

// ARGV[3], ARGV[4]: the number of the node's lease, and its unspent tokens. ARGV[6]: the number of the new lease.
// ARGV[7]: the least that is needed. ARGV[8]: the sum of all waiting costs. ARGV[9]: tokens wanted ahead of use.
//
// Tokens ahead of use are at most half of what may still be leased, so that other nodes get some. The node's lease
// becomes part of the new one. If more than half of the burst is on lease, the new lease is short: after a loss of all
// data the store can then wait until all such leases have ended.
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

// ARGV[3], ARGV[4]: the number of the node's lease, and its unspent tokens, which return to the bucket.
const RELEASE = `${MINE}
if mine and leases[mine][2] == tonumber(ARGV[3]) then
  local left = math.min(tonumber(ARGV[4]), leases[mine][3])
  tokens = tokens + left
  table.remove(leases, mine)
end
${SAVE}
return violations`;

const READ = `
return {string.format('%.17g', tokens), violations}`;

const BODIES: Record<ScriptName, string> = {
  strict: STRICT,
  lease: LEASE,
  release: RELEASE,
  read: READ,
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
  const text = `-- ${runId}\n${readClock}\n${constants(limit)}${LOAD}${BODIES[name]}\n`;
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
