// The Lua scripts of bans. Nodes of different versions share keys and messages, so what the scripts store and publish
// must stay compatible.
//
// All bans of a prefix are in two keys of one hash tag, so on one server of a cluster. A hash has the state of each peer
// (ban-state.ts) by its id as JSON, behind a letter; the version, a number that every change increments, so that a node
// that has received every number has missed no change; the epoch, which ends when the store loses data; the shift of the
// fleet's clock; and who tells the store what it lost. An index, a sorted set, lists all ids by when their states expire.
//
// In a cluster changes are published on a sharded channel, which only the server of the keys knows (Redis 7), and on a
// channel that all servers know only for a minute after a process has said that it listens to that one. A third key says so.
//
// Peers have no keys of their own, so a store that evicts keys, or whose clock is set forward, cannot end single bans
// unnoticed. Both keys contain a mark: the scripts refuse a key without it, and do not change it. A change says when what
// it tells was made, so it may be late, come twice, or come in any order.

import { MAX_TERMS } from './ban-state.js';

/** The mark: in the index a member that never expires, in the hash the field of the epoch. */
const MARK = 'rlb2';

/** Seconds for which violations without a ban are kept. */
export const LEVEL_SECONDS = 3600;
/** Seconds for which a lift is kept, at least: for processes that are cut off and know bans of before. */
const LIFT_SECONDS = 3600;
/** And at most; otherwise as long as the bans it ended. */
const MAX_LIFT_SECONDS = 30 * 86_400;
/** The longest ban in the store, in seconds: about 3,000 years. */
export const MAX_BAN_SECONDS = 1e11;
/** Seconds for which a process that tells a store what it lost keeps others from telling the same. */
const TELL_SECONDS = 10;
/** Seconds for which changes are published to all servers of a cluster after a process has said that it needs that. */
const BROADCAST_SECONDS = 60;
/** Expired states that a change deletes. */
const EXPIRY_CHECKS = 200;

// KEYS: the index, the hash, and in a cluster the key that asks for a broadcast. ARGV: the least time by the fleet's clock
// (1); the epoch to begin, for a store that has no epoch or has lost data (2); the known epoch (3), version (4) and shift (5).
// If the shift is not the known one, and the epoch is, another node has corrected the clock, and the least time may be of
// before. A correction is a change with a number of its own: a store that comes back with an older shift has an older
// version too.
const BEGIN = `
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function text(number) return string.format('%.17g', number) end
local function isOurs(key, kind, command)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or (found == kind and redis.call(command, key, '${MARK}'))
end
if not (isOurs(KEYS[1], 'zset', 'ZSCORE') and isOurs(KEYS[2], 'hash', 'HGET')) then
  return redis.error_reply('ERR relay-limiter found a key under its prefix that is not its own: ' .. KEYS[1])
end
local epoch, version, shift, teller = unpack(redis.call('HMGET', KEYS[2], '${MARK}', 'version', 'shift', 'teller'))
version, shift = tonumber(version) or 0, tonumber(shift) or 0
local isMarked
local function set(...)
  if not isMarked then
    epoch, isMarked = epoch or ARGV[2], true
    redis.call('HSET', KEYS[2], '${MARK}', epoch)
    redis.call('ZADD', KEYS[1], 'inf', '${MARK}')
  end
  redis.call('HSET', KEYS[2], ...)
end
now = now + shift
local isLost = not epoch or (ARGV[3] ~= '' and ARGV[3] ~= epoch)
if epoch and ((epoch == ARGV[3] and version < tonumber(ARGV[4])) or redis.call('EXISTS', KEYS[1]) == 0) then
  epoch, isLost = ARGV[2], true
  set('version', version)
end
local function correct(seconds)
  shift, now, version = shift + seconds, now + seconds, version + 1
  set('shift', text(shift), 'version', version)
end
local least = tonumber(ARGV[1])
if least > now + 0.05 and (isLost or text(shift) == ARGV[5]) then correct(least - now) end
`;

/**
 * Replies with the epoch, the version, the time by the fleet's clock, its shift, and whether the node is to tell what the
 * store has lost. `ARGV` from 6 on: `take` or `free` for that, or nothing; the node; seconds by which the clock jumped
 * ahead with the known shift; and in a cluster `broadcast` if the node needs changes published to all servers.
 */
export const VERSION = `${BEGIN}
if tonumber(ARGV[8]) > 0 and text(shift) == ARGV[5] then correct(-tonumber(ARGV[8])) end
local isTeller = 0
if ARGV[6] == 'take' then
  local taken = teller and teller ~= ARGV[7] and tonumber(redis.call('HGET', KEYS[2], 'until')) or 0
  if taken <= now then
    isTeller = 1
    set('teller', ARGV[7], 'until', text(now + ${TELL_SECONDS}))
  end
elseif ARGV[6] == 'free' and teller == ARGV[7] then
  redis.call('HDEL', KEYS[2], 'teller', 'until')
end
if KEYS[3] and ARGV[9] == 'broadcast' then redis.call('SET', KEYS[3], '${MARK}', 'EX', ${BROADCAST_SECONDS}) end
return {epoch or '', tostring(version), text(now), text(shift), isTeller}`;

/** Publishes a text (`ARGV[2]`) on a sharded channel (`ARGV[1]`), on the server of the keys. */
export const PUBLISH_SHARDED = "return redis.call('SPUBLISH', ARGV[1], ARGV[2])";

/**
 * Merges the states of peers, as ban-state.ts says, and publishes those that change. `ARGV` from 6 on: the node, the
 * channel, and for each peer its id as JSON, violations to add, and its state. The channel is an argument because a client
 * may prefix keys, but not channels. What was made later than now was made now.
 */
export const CHANGE = `${BEGIN}
local function parse(value)
  local lifted, violations, rest = string.match(value, '^(%S+) (%S+)(.*)$')
  local terms = {}
  for made, ends in string.gmatch(rest, ' ([^ :]+):([^ :]+)') do
    terms[#terms + 1] = {tonumber(made), tonumber(ends)}
  end
  return tonumber(lifted), tonumber(violations), terms
end
local changed = {}
for at = 8, #ARGV, 3 do
  local id, field = ARGV[at], 'p' .. ARGV[at]
  local known = redis.call('HGET', KEYS[2], field)
  local before, beforeCount, beforeTerms = parse(known or '0 0')
  local lifted, count, terms = parse(ARGV[at + 2])
  local last = lifted
  for _, term in ipairs(terms) do last = math.max(last, term[1]) end
  local early = math.max(0, last - now)
  lifted = math.max(0, lifted - early)
  local lift = math.max(before, lifted)
  local all, expires = {}, 0
  local function keep(list, isKnown, by)
    local isOver, survives = #list > 0, false
    for _, term in ipairs(list) do
      local made, ends = term[1] - by, term[2] - by
      if ends > now then
        isOver = false
        if made > lift then
          all[#all + 1] = {made, ends}
          survives = true
        else expires = math.max(expires, ends) end
      end
    end
    return (isKnown or survives) and not isOver
  end
  local violations = 0
  if keep(beforeTerms, before == lift, 0) then violations = beforeCount end
  if keep(terms, lifted == lift, early) then violations = math.max(violations, count) + tonumber(ARGV[at + 1]) end
  table.sort(all, function(a, b) return a[1] > b[1] or (a[1] == b[1] and a[2] > b[2]) end)
  local parts, longest = {}, 0
  for _, term in ipairs(all) do
    if term[2] > longest then
      longest = term[2]
      if #parts < ${MAX_TERMS} then parts[#parts + 1] = term else parts[#parts][2] = longest end
    end
  end
  for index, term in ipairs(parts) do parts[index] = ' ' .. text(term[1]) .. ':' .. text(term[2]) end
  local value = text(lift) .. ' ' .. text(violations) .. table.concat(parts)
  local score = redis.call('ZSCORE', KEYS[1], id)
  if lift > 0 then
    expires = math.min(math.max(expires, tonumber(score or 0), lift + ${LIFT_SECONDS}), now + ${MAX_LIFT_SECONDS})
  end
  expires = math.max(expires, longest, violations > 0 and now + ${LEVEL_SECONDS} or 0)
  if expires > now and (value ~= (known or '0 0') or not score) then
    set(field, value)
    redis.call('ZADD', KEYS[1], text(expires), id)
    changed[#changed + 1] = '[' .. id .. ',"' .. value .. '"]'
  end
end
if #changed > 0 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, ${EXPIRY_CHECKS})) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], 'p' .. id)
  end
  local last = redis.call('ZREVRANGEBYSCORE', KEYS[1], '(inf', '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local seconds = string.format('%.0f', math.min(math.max(tonumber(last or now) - now, 0) + 86400, ${2 * MAX_BAN_SECONDS}))
  redis.call('EXPIRE', KEYS[1], seconds)
  redis.call('EXPIRE', KEYS[2], seconds)
  if teller == ARGV[6] then set('until', text(now + ${TELL_SECONDS})) end
  version = redis.call('HINCRBY', KEYS[2], 'version', 1)
  local message = string.format('{"epoch":"%s","version":%d,"time":%s,"from":"%s","peers":[%s]}',
    epoch, version, text(now), ARGV[6], table.concat(changed, ','))
  local isSharded = KEYS[3] and type(redis.pcall('SPUBLISH', ARGV[7], message)) == 'number'
  if not isSharded or redis.call('EXISTS', KEYS[3]) == 1 then redis.call('PUBLISH', ARGV[7], message) end
end
return #changed`;

/**
 * Replies with a page of the index: ids, each followed by when its state expires and by the state. `ARGV`: the time from
 * which to read, the size of the page. Pages are by time and not by rank: a change during the reading can only move
 * an id to a later page, so none is skipped.
 */
export const PAGE = `
local page = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '(inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local fields, reply = {}, {}
for at = 1, #page, 2 do fields[#fields + 1] = 'p' .. page[at] end
if #fields == 0 then return reply end
local values = redis.call('HMGET', KEYS[2], unpack(fields))
for at, value in ipairs(values) do
  reply[3 * at - 2], reply[3 * at - 1], reply[3 * at] = page[2 * at - 1], page[2 * at], value or ''
end
return reply`;

/** A message that CHANGE publishes. */
export interface BanMessage {
  readonly epoch: string;
  readonly version: number;
  /** The node that made the change. */
  readonly from: string;
  /** Pairs of an id and the text of its state. Not validated. */
  readonly peers: readonly unknown[];
}

/** Parses a message; undefined if it has no epoch, no version or no peers. */
export function parseMessage(message: string): BanMessage | undefined {
  try {
    const { epoch, version, from, peers } = JSON.parse(message);
    const isValid =
      typeof epoch === 'string' && Number.isSafeInteger(version) && Array.isArray(peers);
    return isValid ? { epoch, version, from, peers } : undefined;
  } catch {
    return undefined;
  }
}

/** Parses an id of the index, which is stored as JSON. */
export function parseId(text: string): string | undefined {
  try {
    const id: unknown = JSON.parse(text);
    return typeof id === 'string' ? id : undefined;
  } catch {
    return undefined;
  }
}
