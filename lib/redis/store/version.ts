// What all nodes have in common and any of them may change while they run, in the store: a limit, or rules. One key, at which
// every node looks regularly; the first change creates it.
//
// Its text: a first line with a mark, the number of the change, the name of the current content (a digest) and the names of
// those before it, the last one first; then the content. A node that starts with any of these adopts the current one. A look
// at an unchanged text transfers the first line only.
//
// The number is the store's time of the change in milliseconds, or one more than the number before it if that is later. So
// it also exceeds the numbers that nodes remember of a store that has lost its data since.

import { createHash } from 'node:crypto';

export interface Version {
  /** The text in the store. */
  readonly text: string;
  /** Its first line. */
  readonly header: string;
  readonly number: number;
  readonly name: string;
  readonly former: readonly string[];
  readonly content: string;
}

const MARK = 'rlv1';
/** Seconds for which the key is kept without any node. */
const KEPT_SECONDS = 86_400;
/** Contents that are named: the current one, those before it, and always the first. */
const MOST_NAMES = 10;
/** The reply to a node that knows a newer version than the store, which has lost data. */
export const OLDER = 'older';

const READ = `
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' or stored and string.sub(stored, 1, ${MARK.length + 1}) ~= '${MARK}|' then
  return redis.error_reply('WRONGTYPE a key under the prefix of relay-limiter is not its own')
end
local function numberOf(header) return tonumber(string.match(header, '^${MARK}|(%d+)|') or 0) end
local header = string.match(stored or '', '^[^\\n]*')
`;

/**
 * Replies with the text of the key, empty if there is none; with only its first line if that is the one that the node knows
 * (`ARGV[1]`, empty if it knows none). If the node knows a newer one, it replies OLDER, or writes the text (`ARGV[2]`) if the
 * node gives it.
 */
export const SYNC_VERSION = `${READ}
if numberOf(ARGV[1]) > numberOf(header) then
  if not ARGV[2] then return '${OLDER}' end
  stored = ARGV[2]
  redis.call('SET', KEYS[1], stored)
end
if stored then redis.call('EXPIRE', KEYS[1], ${KEPT_SECONDS}) end
return header ~= '' and header == ARGV[1] and header or stored or ''`;

/**
 * Makes a content the current one. `ARGV`: the first line that the node knows, empty if it knows none (1), the name of the
 * content that it has (2), and the name (3) and the text (4) of the new one. Replies with the text: if another node has made a
 * change that this one does not know, that of the other node, and then nothing has changed.
 */
export const CHANGE_VERSION = `${READ}
if header ~= ARGV[1] and numberOf(header) >= numberOf(ARGV[1]) then return stored end
local names, former = {ARGV[3]}, string.match(ARGV[1], '^[^|]*|[^|]*|(.*)$') or ARGV[2]
for name in string.gmatch(former, '[^|]+') do
  if name ~= ARGV[3] then names[#names + 1] = name end
end
if #names > ${MOST_NAMES} then table.remove(names, #names - 1) end
local time = redis.call('TIME')
local number = math.max(numberOf(ARGV[1]) + 1, time[1] * 1000 + math.floor(time[2] / 1000))
stored = string.format('${MARK}|%.0f|', number) .. table.concat(names, '|') .. '\\n' .. ARGV[4]
redis.call('SET', KEYS[1], stored, 'EX', ${KEPT_SECONDS})
return stored`;

/** The name of a content. */
export function nameOf(content: string): string {
  return createHash('sha256').update(content).digest('base64url');
}

/** Reads a text; undefined if nothing has ever been changed, or it is invalid. */
export function readVersion(text: string): Version | undefined {
  const [header = ''] = text.split('\n', 1);
  const [mark, number, name, ...former] = header.split('|');
  if (mark !== MARK || name === undefined || !Number.isSafeInteger(Number(number)))
    return undefined;
  const content = text.slice(header.length + 1);
  return { text, header, number: Number(number), name, former, content };
}
