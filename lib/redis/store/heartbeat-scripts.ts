// The Lua scripts by which a node registers in a shard and learns whether the store has lost data.
//
// Each shard has two keys. The nodes: a sorted set by the time of their last heartbeat. The memory of losses: a hash with
// the number of each node's last heartbeat, the epoch, which a loss ends, and what the last loss means for buckets. All
// nodes read that, so a node that starts after a loss, or did not notice it, treats buckets as those that noticed it do.

/** Lua that sets `now` to the server's time, in seconds. */
export const READ_CLOCK = `local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000`;

/** Seconds without a heartbeat after which a node counts as gone. */
const GONE_SECONDS = 15;
/** Seconds for which the memory of losses is kept without any heartbeat. */
const MEMORY_SECONDS = 86_400;

/** A member, and a field, that is no node: a key without it was not written by this package. The field is the epoch. */
const MARK = 'relay-limiter';

/**
 * Registers a node. `KEYS`: the nodes, the memory of losses. `ARGV[1]`: nine words, since a server that wants a password
 * names the reason only to calls of up to ten arguments: the node (1), the number of this heartbeat (2), the
 * number of the last answered one (3, 0 if there was none), the server's run (4) and the epoch (5) that it replied (or a dash), the
 * seconds since it was sent or, without one, since the node began (6), the seconds for which leases of an earlier loss may
 * still hold half of the burst (7), and the lifetimes of a short lease (8) and of any lease (9).
 *
 * Data is lost if the server was started since the last answered heartbeat, if the epoch is not the same, or if the store
 * has an older heartbeat of this node than it has answered (its data went back). A node without an answered heartbeat
 * knows only whether the server was started after it, and takes that for a loss if no other node has been there since. A
 * loss that another node has recorded since then is the same loss. No store's clock is compared with an earlier reading.
 *
 * Replies with the run, the server's time, the number of nodes, the epoch, and the last loss: when it was noticed (empty if
 * there was none), until when buckets stay empty, and until when half of the burst may be on lost leases. The script
 * writes, so a store that refuses writes does not count as working.
 */
export const HEARTBEAT = `${READ_CLOCK}
local info = redis.pcall('INFO', 'server')
local run, uptime = 'unknown', -1
if type(info) == 'string' then
  run = string.match(info, 'run_id:(%x+)') or run
  uptime = tonumber(string.match(info, 'uptime_in_seconds:(%d+)')) or uptime
end
local function isForeign(key, kind, command)
  local found = redis.call('TYPE', key).ok
  return found ~= 'none' and not (found == kind and redis.call(command, key, '${MARK}'))
end
if isForeign(KEYS[1], 'zset', 'ZSCORE') or isForeign(KEYS[2], 'hash', 'HGET') then
  return redis.error_reply('WRONGTYPE a key under the prefix of relay-limiter is not its own')
end
local function text(number) return string.format('%.17g', number) end
local given = {}
for word in string.gmatch(ARGV[1], '%S+') do given[#given + 1] = word end
local node, answered, elapsed = given[1], tonumber(given[3]), tonumber(given[6])
local epoch, seen, since, empty, half = unpack(redis.call('HMGET', KEYS[2], '${MARK}', node, 'since', 'empty', 'half'))
local isLost
if answered > 0 then
  isLost = epoch ~= given[5] or (tonumber(seen) or 0) < answered or (run ~= given[4] and uptime < elapsed + 1)
elseif uptime >= 0 and uptime + 1 < elapsed then
  isLost = #redis.call('ZRANGEBYSCORE', KEYS[1], text(now - uptime), text(now), 'LIMIT', 0, 1) == 0
end
if isLost and not (since and tonumber(since) > now - elapsed) then
  local before = tonumber(half) or 0
  if tonumber(given[7]) > 0 then before = math.max(before, now + tonumber(given[7])) end
  since, empty, half = text(now), text(math.max(now + tonumber(given[8]), before)), text(now + tonumber(given[9]))
  redis.call('HSET', KEYS[2], 'since', since, 'empty', empty, 'half', half)
  epoch = false
end
if not epoch then
  epoch = node .. '-' .. given[2]
  redis.call('HSET', KEYS[2], '${MARK}', epoch)
end
redis.call('HSET', KEYS[2], node, given[2])
redis.call('ZADD', KEYS[1], 'inf', '${MARK}', now, node)
for _, early in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now), '(inf')) do
  redis.call('ZADD', KEYS[1], now, early)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ${GONE_SECONDS})
local nodes = redis.call('ZCARD', KEYS[1]) - 1
if redis.call('HLEN', KEYS[2]) > 2 * nodes + 100 then
  for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
    if string.match(field, '^%d+$') and not redis.call('ZSCORE', KEYS[1], field) then redis.call('HDEL', KEYS[2], field) end
  end
end
redis.call('EXPIRE', KEYS[1], ${4 * GONE_SECONDS})
redis.call('EXPIRE', KEYS[2], ${MEMORY_SECONDS})
return {run, text(now), nodes, epoch, since or '', empty or '0', half or '0'}
`;

/** Removes a node (`ARGV[1]`) from the nodes (`KEYS[1]`) and from the memory of losses (`KEYS[2]`). */
export const UNREGISTER = `
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])`;

/** The last loss of data that nodes have noticed, in the store's time. */
export interface DataLoss {
  /** When it was noticed. */
  readonly since: number;
  /** Until when lost leases may hold all of the burst: buckets stay empty. */
  readonly emptyUntil: number;
  /** Until when lost leases may hold half of the burst. */
  readonly halfUntil: number;
}

export interface HeartbeatReply {
  readonly runId: string;
  readonly storeTime: number;
  readonly nodes: number;
  readonly epoch: string;
  readonly loss: DataLoss | undefined;
}

/** Reads the reply of HEARTBEAT; undefined if it is invalid. */
export function readHeartbeatReply(reply: unknown): HeartbeatReply | undefined {
  if (!Array.isArray(reply) || reply.length !== 7) return undefined;
  // A client may map strings to buffers and numbers to strings.
  const [runId, time, nodes, epoch, since, empty, half] = reply.map(String) as [
    ...[string, string, string, string],
    ...[string, string, string],
  ];
  const [storeTime, count, emptyUntil, halfUntil] = [time, nodes, empty, half].map(Number) as [
    ...[number, number, number, number],
  ];
  if (![storeTime, count, emptyUntil, halfUntil, Number(since)].every(Number.isFinite)) {
    return undefined;
  }
  const loss = since === '' ? undefined : { since: Number(since), emptyUntil, halfUntil };
  return { runId, storeTime, nodes: Math.max(1, count), epoch, loss };
}
