// The Lua scripts by which a node registers in a shard, and learns about the server. Each shard has one key, a sorted
// set of its nodes by the time of their last heartbeat.

/** Lua that sets `now` to the server's time, in seconds. */
export const READ_CLOCK = `local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000`;

/** Seconds without a heartbeat after which a node counts as gone. */
const GONE_SECONDS = 15;

/** A member that never expires and is no node: a key without it was not written by this package. */
const MARK = 'relay-limiter';

/**
 * Registers a node (`ARGV[1]`) in the nodes' key (`KEYS[1]`). Replies with the id of the server's run, its uptime in
 * seconds (-1 if the user may not call INFO), the server's time, and the number of nodes. The script writes, so that a
 * store that refuses writes does not count as working.
 */
export const HEARTBEAT = `${READ_CLOCK}
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

/** Removes a node (`ARGV[1]`) from the nodes' key. */
export const UNREGISTER = "return redis.call('ZREM', KEYS[1], ARGV[1])";
