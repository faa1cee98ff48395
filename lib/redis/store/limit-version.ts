// The current limit of a prefix in the store, once it has been changed while nodes run: one key, read by every node once a
// second. Its text: a mark, a number that each change raises, the limit, and the limits before it, the last one first. A
// node that starts with any of these adopts the current one.
//
// The number is the store's time of the change in milliseconds, or one more than the number before it if that is later. So
// it also exceeds the numbers that nodes remember of a store that has lost its data since.

import type { Limit } from './limit.js';

/** The part of a limit that can be changed while nodes run. */
export type ChangeableLimit = Pick<Limit, 'rateLimit' | 'burstLimit' | 'disconnectThreshold'>;

/** What a change sets; undefined stays as it is. */
export type LimitChange = {
  readonly [Name in keyof ChangeableLimit]?: ChangeableLimit[Name] | undefined;
};

export interface LimitVersion {
  /** The text in the store. */
  readonly text: string;
  readonly number: number;
  readonly limit: ChangeableLimit;
  /** Texts of the limits before it. */
  readonly former: readonly string[];
}

const MARK = 'rll1';
/** Seconds for which the key is kept without any node. */
const KEPT_SECONDS = 86_400;
/** Limits that are kept: the current one, those before it, and always the first. */
const MOST_LIMITS = 10;

const READ = `
local stored = redis.call('GET', KEYS[1])
local parts = {}
for part in string.gmatch(stored or '', '[^|]+') do parts[#parts + 1] = part end
if stored and parts[1] ~= '${MARK}' then
  return redis.error_reply('WRONGTYPE a key under the prefix of relay-limiter is not its own')
end
`;

/**
 * Replies with the text of the key, empty if there is none. `ARGV[1]`: the text that the node knows, empty if it knows none.
 * If that is newer, the store has lost data, and the text is written again.
 */
export const SYNC_LIMIT = `${READ}
local known = tonumber(string.match(ARGV[1], '^${MARK}|(%d+)|'))
if known and known > tonumber(parts[2] or 0) then
  stored = ARGV[1]
  redis.call('SET', KEYS[1], stored)
end
if stored then redis.call('EXPIRE', KEYS[1], ${KEPT_SECONDS}) end
return stored or ''`;

/** A number of a changed limit that stays as it is. */
const UNCHANGED = '=';

/**
 * Writes a limit as the current one and replies with the text. `ARGV[1]`: the limit, with a sign for each number that stays
 * as it is. `ARGV[2]`: the limit before the first change. `ARGV[3]`: the text that the node knows, empty if it knows none.
 */
export const CHANGE_LIMIT = `${READ}
if not parts[3] then
  for part in string.gmatch(ARGV[3], '[^|]+') do parts[#parts + 1] = part end
end
if not parts[3] then parts = {'', 0, ARGV[2]} end
local numbers = {}
for number in string.gmatch(parts[3], '%S+') do numbers[#numbers + 1] = number end
local limit = {}
for number in string.gmatch(ARGV[1], '%S+') do
  limit[#limit + 1] = number == '${UNCHANGED}' and numbers[#limit + 1] or number
end
local limits = {table.concat(limit, ' ')}
for at = 3, #parts do
  if parts[at] ~= limits[1] then limits[#limits + 1] = parts[at] end
end
if #limits > ${MOST_LIMITS} then table.remove(limits, #limits - 1) end
local time = redis.call('TIME')
local number = math.max(parts[2] + 1, time[1] * 1000 + math.floor(time[2] / 1000))
stored = string.format('${MARK}|%.0f|', number) .. table.concat(limits, '|')
redis.call('SET', KEYS[1], stored, 'EX', ${KEPT_SECONDS})
return stored`;

/** A limit, or a change of one, as a word of a text. */
export function limitText({ rateLimit, burstLimit, disconnectThreshold }: LimitChange): string {
  const threshold = disconnectThreshold === null ? '-' : disconnectThreshold;
  return [rateLimit, burstLimit, threshold].map((number) => number ?? UNCHANGED).join(' ');
}

/** Reads a reply of the scripts; undefined if there is no changed limit, or the reply is invalid. */
export function readLimitVersion(reply: unknown): LimitVersion | undefined {
  const text = String(reply);
  const [mark, number, current, ...former] = text.split('|');
  const words = current?.split(' ') ?? [];
  if (mark !== MARK || words.length !== 3) return undefined;
  const [rateLimit, burstLimit] = words.map(Number) as [number, number];
  const disconnectThreshold = words[2] === '-' ? null : Number(words[2]);
  const numbers = [Number(number), rateLimit, burstLimit];
  if (![...numbers, disconnectThreshold ?? 0].every(Number.isFinite)) return undefined;
  if (!(rateLimit > 0 && burstLimit >= 1)) return undefined;
  const limit = { rateLimit, burstLimit, disconnectThreshold };
  return { text, number: Number(number), limit, former };
}
