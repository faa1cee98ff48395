// The scripts of bans: all bans of a prefix lie on one server, as they share a hash tag. A ban is a key of
// its own that expires with it: until when (the store's time; 0: no ban) and how many violations. Beside it an
// index of all names, by when they expire, and a number that every change raises: who has seen all
// numbers has missed nothing. The number has an epoch, which ends when the store loses what it had.

/**
 * `KEYS`: the index, the version, the ban. `epoch`: if there is none yet. The channel is the last of the
 * arguments: a client may have a prefix of its own for keys, and channels have none.
 */
const CHANGE = `
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function changed(epoch, rest)
  redis.call('HSETNX', KEYS[2], 'epoch', epoch)
  local version = redis.call('HINCRBY', KEYS[2], 'version', 1)
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  local message = string.format('{"epoch":"%s","version":%d,%s}', redis.call('HGET', KEYS[2], 'epoch'), version, rest)
  redis.call('PUBLISH', ARGV[#ARGV], message)
end
`;

/** Seconds for which violations without a ban are remembered. */
export const LEVEL_SECONDS = 3600;

/** A ban that comes back ends a moment later: it is the same. */
export const SAME_SECONDS = 0.5;

/** Name as JSON, epoch, node, seconds of the ban, violations. The later end stays, and the larger number. */
export const BAN = `${CHANGE}
local seconds, violations = tonumber(ARGV[4]), tonumber(ARGV[5])
local ends, before = 0, 0
local known = redis.call('GET', KEYS[3])
if known then
  local a, b = string.match(known, '^ban (%S+) (%S+)$')
  if not a then return redis.error_reply('WRONGTYPE relay-limiter found a key under its prefix that is not its own') end
  ends, before = tonumber(a), tonumber(b)
end
if seconds > 0 and now + seconds > ends + ${SAME_SECONDS} then ends = now + seconds end
if ends <= now then ends = 0 end
if before > violations then violations = before end
local value = string.format('ban %.17g %.17g', ends, violations)
if value == known then return 0 end
local expires = ends
if violations > 0 then expires = math.max(ends, now + ${LEVEL_SECONDS}) end
if expires <= now then return 0 end
redis.call('SET', KEYS[3], value, 'PX', math.ceil((expires - now) * 1000))
redis.call('ZADD', KEYS[1], expires, ARGV[1])
changed(ARGV[2], string.format('"key":%s,"from":"%s","seconds":%.17g,"violations":%.17g', ARGV[1], ARGV[3], math.max(0, ends - now), violations))
return 1`;

/** Name as JSON, epoch, node. */
export const LIFT = `${CHANGE}
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[1], ARGV[1])
changed(ARGV[2], string.format('"key":%s,"from":"%s","lifted":true', ARGV[1], ARGV[3]))
return 1`;

/** `KEYS`: the index, the version. */
export const VERSION =
  "return {redis.call('HGET', KEYS[2], 'epoch') or '', redis.call('HGET', KEYS[2], 'version') or '0'}";

/** `KEYS`: the index. From which name on, and how many. */
export const NAMES = `
local time = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], time[1], '+inf', 'LIMIT', ARGV[1], ARGV[2])`;

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
