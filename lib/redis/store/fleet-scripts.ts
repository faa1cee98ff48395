// What all processes of a limit have done: one hash. Each process reports its totals and its most refused peers in a field
// of its own, and the script adds to the fleet's totals what the process had not reported before. So a report that is lost,
// late or repeated counts once, and totals never shrink because a process ends.

/** The field of the fleet's totals. A key without it was not written by this package. */
const MARK = 'relay-limiter';
/** Seconds after which the report of a process that is gone, or does not answer, is left out. */
const KEPT_SECONDS = 60;
/** Seconds for which the hash is kept without any process. */
const EXPIRE_SECONDS = 86_400;
/** Reports that are kept of processes that may be gone, besides twice as many as were current at the last look. */
const SPARE_REPORTS = 100;

/** A peer by its id, and how often it was refused. */
export type RefusedPeer = readonly [id: string, refusals: number];

/**
 * Writes the report of a process and replies with the fleet's totals. `KEYS[1]`: the hash. `ARGV`: the process (1), its totals
 * (2), those of its last report that was answered (3), which count as reported if the store has none of it, its most refused
 * peers as JSON (4), and `all` (5) if the reply should go on with the server's time and the reports of all processes.
 */
export const REPORT = `
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and not (kind == 'hash' and redis.call('HEXISTS', KEYS[1], '${MARK}') == 1) then
  return redis.error_reply('WRONGTYPE a key under the prefix of relay-limiter is not its own')
end
local now = tonumber(redis.call('TIME')[1])
local function numbers(text)
  local list = {}
  for word in string.gmatch(text, '%d+') do list[#list + 1] = tonumber(word) end
  return list
end
local function text(list)
  local words = {}
  for at, number in ipairs(list) do words[at] = string.format('%.0f', number) end
  return table.concat(words, ' ')
end
local totals = numbers(redis.call('HGET', KEYS[1], '${MARK}') or '')
local known = redis.call('HGET', KEYS[1], ARGV[1])
local before = numbers(known and string.match(known, '^%d+|([^|]*)|') or ARGV[3])
local given = numbers(ARGV[2])
for at = 1, #given do
  local past = before[at] or 0
  if given[at] < past then given[at] = past end
  totals[at] = (totals[at] or 0) + given[at] - past
end
redis.call('HSET', KEYS[1], '${MARK}', text(totals), ARGV[1], now .. '|' .. text(given) .. '|' .. ARGV[4])
if redis.call('HLEN', KEYS[1]) > tonumber(redis.call('HGET', KEYS[1], 'most') or ${SPARE_REPORTS}) then
  for _, node in ipairs(redis.call('HKEYS', KEYS[1])) do
    local at = string.match(node, '^%d+$') and string.match(redis.call('HGET', KEYS[1], node), '^%d+')
    if at and math.abs(now - at) > ${KEPT_SECONDS} then redis.call('HDEL', KEYS[1], node) end
  end
  redis.call('HSET', KEYS[1], 'most', 2 * redis.call('HLEN', KEYS[1]) + ${SPARE_REPORTS})
end
redis.call('EXPIRE', KEYS[1], ${EXPIRE_SECONDS})
local reply = {text(totals)}
if ARGV[5] == 'all' then
  reply[2] = tostring(now)
  for _, report in ipairs(redis.call('HVALS', KEYS[1])) do reply[#reply + 1] = report end
end
return reply`;

export interface FleetReply<Name extends string> {
  readonly totals: Record<Name, number>;
  /** Of each process whose report is current: its most refused peers. Empty unless all reports were asked for. */
  readonly refused: readonly (readonly RefusedPeer[])[];
}

/** Reads the reply of REPORT with totals of these names; undefined if it is invalid. */
export function readFleetReply<Name extends string>(
  names: readonly Name[],
  reply: unknown,
): FleetReply<Name> | undefined {
  if (!Array.isArray(reply)) return undefined;
  // A client may map strings to buffers.
  const [totals, now, ...reports] = reply.map(String);
  const numbers = (totals ?? '').split(' ').map(Number);
  if (numbers.length !== names.length || !numbers.every(Number.isSafeInteger)) return undefined;
  const entries = names.map((name, at) => [name, numbers[at]]);
  return {
    totals: Object.fromEntries(entries) as Record<Name, number>,
    refused: reports.map((report) => readReport(report, Number(now))),
  };
}

/** The peers of a report; empty if it is not current, or no report. */
function readReport(report: string, now: number): RefusedPeer[] {
  const [, at, json] = /^(\d+)\|[\d ]*\|(.*)$/s.exec(report) ?? [];
  if (json === undefined || Math.abs(now - Number(at)) > KEPT_SECONDS) return [];
  try {
    const peers: unknown = JSON.parse(json);
    return Array.isArray(peers) ? peers.filter(isRefusedPeer) : [];
  } catch {
    return [];
  }
}

function isRefusedPeer(value: unknown): value is RefusedPeer {
  return Array.isArray(value) && typeof value[0] === 'string' && Number.isSafeInteger(value[1]);
}
