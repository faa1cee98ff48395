// The Lua scripts of bans. Nodes of different versions share keys and messages, so what the scripts store and publish
// must stay compatible.
//
// All bans of a prefix are on one server of a cluster, because their keys share a hash tag. A ban is a key that
// expires with it; its value holds when the ban ends (the store's time; 0 for no ban) and the violations. An index, a
// sorted set, lists all peers by when their keys expire. A hash holds the version, a number that every change
// increments: a node that has received every number has missed no change. The version belongs to an epoch, which ends
// when the store loses its data.
//
// The values of all three kinds of keys contain a mark. The scripts refuse a key without it, and do not change it.
// A script that changes something receives the latest time at which it may be executed; a ban that waited in a queue
// would otherwise start anew.

/** The mark: in the index a member that never expires, in the hash of the version the field of the epoch. */
const MARK = 'rlb1';

// KEYS: the index, the version.
const OWN = `
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function isOurs(key, kind, command)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or (found == kind and redis.call(command, key, '${MARK}'))
end
if not (isOurs(KEYS[1], 'zset', 'ZSCORE') and isOurs(KEYS[2], 'hash', 'HGET')) then
  return redis.error_reply('ERR relay-limiter found a key under its prefix that is not its own: ' .. KEYS[1])
end
`;

// KEYS: the index, the version, the ban. ARGV: the peer's id as JSON, the epoch to start if there is none, the node,
// the latest time, arguments of BAN, the channel. The channel is an argument of its own because a client may prefix
// keys, but not channels.
const CHANGE = `${OWN}
if now > tonumber(ARGV[4]) then return 'late' end
local ends, before = 0, 0
local known = redis.call('GET', KEYS[3])
if known then
  local a, b = string.match(known, '^ban (%S+) (%S+)$')
  if not a then return redis.error_reply('WRONGTYPE relay-limiter found a key under its prefix that is not its own') end
  ends, before = tonumber(a), tonumber(b)
end
local function changed(rest)
  redis.call('HSETNX', KEYS[2], '${MARK}', ARGV[2])
  local version = redis.call('HINCRBY', KEYS[2], 'version', 1)
  redis.call('ZADD', KEYS[1], 'inf', '${MARK}')
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  local epoch = redis.call('HGET', KEYS[2], '${MARK}')
  local message = string.format('{"epoch":"%s","version":%d,"key":%s,"from":"%s",%s}', epoch, version, ARGV[1], ARGV[3], rest)
  redis.call('PUBLISH', ARGV[#ARGV], message)
end
`;

/** Seconds for which violations without a ban are kept. */
export const LEVEL_SECONDS = 3600;

/** Bans with ends this close are the same ban: one that a node received and sent again ends slightly later. */
export const SAME_SECONDS = 0.5;

/** The longest ban in the store, in seconds: about 3,000 years, and within the range of PX. */
export const MAX_BAN_SECONDS = 1e11;

/** Merges a ban. ARGV[5], ARGV[6]: its seconds, the violations. The later end and the larger number are kept. */
export const BAN = `${CHANGE}
local seconds, violations = tonumber(ARGV[5]), tonumber(ARGV[6])
if seconds > 0 and now + seconds > ends + ${SAME_SECONDS} then ends = now + seconds end
if ends <= now then ends = 0 end
if before > violations then violations = before end
local value = string.format('ban %.17g %.17g', ends, violations)
if value == known then return 0 end
local expires = ends
if violations > 0 then expires = math.max(ends, now + ${LEVEL_SECONDS}) end
if expires <= now then return 0 end
redis.call('SET', KEYS[3], value, 'PX', string.format('%.0f', math.ceil((expires - now) * 1000)))
redis.call('ZADD', KEYS[1], string.format('%.17g', expires), ARGV[1])
changed(string.format('"seconds":%.17g,"violations":%.17g', math.max(0, ends - now), violations))
return 1`;

/** Deletes a ban and its violations. */
export const LIFT = `${CHANGE}
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[1], ARGV[1])
changed('"lifted":true')
return 1`;

/** Replies with the epoch, the version and the store's time. */
export const VERSION = `${OWN}
local epoch = redis.call('HGET', KEYS[2], '${MARK}') or ''
return {epoch, redis.call('HGET', KEYS[2], 'version') or '0', string.format('%.17g', now)}`;

/**
 * Replies with a page of the index (`KEYS[1]`): ids, each followed by when its key expires. `ARGV`: the time from
 * which to read, the size of the page. Pages are by time and not by rank: a change during the reading can only move
 * an id to a later page, so none is skipped.
 */
export const INDEX_PAGE = `
return redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '(inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])`;

/** Replies with the values of bans (`KEYS`): for each the seconds that are left, and the violations. */
export const VALUES = `
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local values = redis.call('MGET', unpack(KEYS))
for at, value in ipairs(values) do
  local ends, violations = string.match(value or '', '^ban (%S+) (%S+)$')
  values[at] = ends and string.format('%.17g %s', math.max(0, ends - now), violations) or ''
end
return values`;

/** A message that BAN or LIFT publishes. */
export interface BanMessage {
  readonly epoch: string;
  readonly version: number;
  /** The node that made the change. */
  readonly from: string;
  readonly key: string;
  readonly seconds: number;
  readonly violations: number;
  readonly isLifted: boolean;
}

/** Parses a message; undefined if it has no epoch and version. The other fields are not validated. */
export function parseMessage(message: string): BanMessage | undefined {
  try {
    const { epoch, version, from, key, seconds = 0, violations = 0, lifted } = JSON.parse(message);
    const parsed = { epoch, version, from, key, seconds, violations, isLifted: lifted === true };
    const isValid = typeof epoch === 'string' && Number.isSafeInteger(version);
    return isValid ? parsed : undefined;
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
