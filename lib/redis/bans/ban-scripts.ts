// The scripts of bans: all bans of a prefix lie on one server, as they share a hash tag. A ban is a key of
// its own that expires with it: until when (the store's time; 0: no ban) and how many violations. Beside it an
// index of all names, by when they expire, and a number that every change raises: who has seen all
// numbers has missed nothing. The number has an epoch, which ends when the store loses what it had.
//
// All three bear a mark; what lies there without it is somebody else's: it is refused, and left as it is.
// Scripts that change something are told the latest time at which they may: one that waited in a queue
// would begin a ban anew.

/** In the index a name that never expires, in the number's key the field of the epoch. */
const MARK = 'rlb1';

/** `KEYS`: the index, the version. */
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

/**
 * `KEYS`: the index, the version, the ban. First arguments: name as JSON, epoch if there is none yet, node,
 * latest time. The channel is the last of them: a client may have a prefix of its own for keys, and
 * channels have none.
 */
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

/** Seconds for which violations without a ban are remembered. */
export const LEVEL_SECONDS = 3600;

/** A ban that comes back ends a moment later: it is the same. */
export const SAME_SECONDS = 0.5;

/** Seconds that a ban lasts in the store at most: 3,000 years, and what PX takes. */
export const MOST_SECONDS = 1e11;

/** Then seconds of the ban, violations. The later end stays, and the larger number. */
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

export const LIFT = `${CHANGE}
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[1], ARGV[1])
changed('"lifted":true')
return 1`;

/** The epoch, the number, and the time there. */
export const VERSION = `${OWN}
local epoch = redis.call('HGET', KEYS[2], '${MARK}') or ''
return {epoch, redis.call('HGET', KEYS[2], 'version') or '0', string.format('%.17g', now)}`;

/**
 * `KEYS`: the index. From which time on, and how many: names, each followed by when it expires. By time and
 * not by rank: a change only moves a name to a later page, and none comes to be left out.
 */
export const NAMES = `
return redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '(inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])`;

/** `KEYS`: bans. Their values, each led by the seconds that the ban has left. */
export const VALUES = `
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local values = redis.call('MGET', unpack(KEYS))
for at, value in ipairs(values) do
  local ends, violations = string.match(value or '', '^ban (%S+) (%S+)$')
  values[at] = ends and string.format('%.17g %s', math.max(0, ends - now), violations) or ''
end
return values`;

/** What scripts publish. */
export interface Message {
  readonly epoch: string;
  readonly version: number;
  readonly from: string;
  readonly key: string;
  readonly seconds: number;
  readonly violations: number;
  readonly isLifted: boolean;
}

/** Undefined for what is no message of theirs; whether it can be a ban is for others to say. */
export function parse(message: string): Message | undefined {
  try {
    const { epoch, version, from, key, seconds = 0, violations = 0, lifted } = JSON.parse(message);
    const said = { epoch, version, from, key, seconds, violations, isLifted: lifted === true };
    const isOne = typeof epoch === 'string' && Number.isSafeInteger(version);
    return isOne ? said : undefined;
  } catch {
    return undefined;
  }
}

/** Of a name in the index, as JSON. */
export function nameOf(text: string): string | undefined {
  try {
    const name: unknown = JSON.parse(text);
    return typeof name === 'string' ? name : undefined;
  } catch {
    return undefined;
  }
}
