// Reads and validates the options that the middleware and the Fastify plugin share, once, before the first request.

import type { IncomingMessage } from 'node:http';
import { invalidNumber, invalidValue, limiterError } from '../common/errors.js';
import { callback, nonNegative, positive, readOptions } from '../common/options.js';
import { readWarnings, type Warn, warnOfCluster } from '../guard/misuse.js';
import type { Draft } from '../headers/format.js';
import { requireLimiter } from '../limiters/verdict.js';
import { CLIENT_KEY_OPTIONS, clientKey } from './client-key.js';
import type { LimitSettings } from './policies.js';
import type { Asked, LimitOptions, Message, Unanswered } from './types.js';

type Given = Readonly<Record<string, unknown>>;

/** Options that are passed to the limiters created for `limit`. */
const LIMITER_OPTIONS = ['engine', 'clock', 'maxPeers', 'disconnectThreshold'] as const;

/** Each option here excludes the listed options, which would have no effect with it. */
export const EXCLUSIONS = {
  limiter: ['limit', 'windowSeconds', ...LIMITER_OPTIONS],
  key: CLIENT_KEY_OPTIONS,
} as const;

/** The names of the shared options. */
export const SHARED_OPTIONS = [
  ...Object.entries(EXCLUSIONS).flat(2),
  'name',
  'cost',
  'skip',
  'headers',
  'statusCode',
  'message',
  'onVerdict',
  'warnings',
];

export interface RequestLimiterOptions<Request, Response> extends LimitSettings<Request, Response> {
  readonly name: string | undefined;
  readonly key: Asked<Request, Response, string>;
  readonly cost: Asked<Request, Response, number>;
  readonly skip: Asked<Request, Response, boolean> | undefined;
  readonly headers: readonly Draft[];
  readonly statusCode: (refusal: Unanswered) => number;
  readonly message: Message<Request, Response> | undefined;
  readonly onVerdict: LimitOptions<Request, Response>['onVerdict'];
  readonly warn: Warn;
  /** Whether the user has set the option `key`. */
  readonly isOwnKey: boolean;
}

/**
 * Reads the shared options. `others` are the names of the caller's further options. `raw` returns Node's request.
 * @throws `ERR_LIMITER_OPTION`
 */
export function readSharedOptions<Request, Response>(
  owner: string,
  options: unknown,
  others: readonly string[],
  raw: (request: Request) => IncomingMessage,
): RequestLimiterOptions<Request, Response> {
  const given = readOptions(owner, options, [...SHARED_OPTIONS, ...others]);
  for (const [name, excluded] of Object.entries(EXCLUSIONS)) requireNone(given, name, excluded);
  const warn = readWarnings(given);
  warnOfCluster(warn);
  return {
    ...readLimits(given),
    name: text(given, 'name'),
    key: readKey(given, raw, warn),
    cost: readCost(given),
    skip: callback(given, 'skip'),
    headers: readDrafts(given),
    statusCode: readStatusCode(given),
    message: readMessage(given),
    onVerdict: callback(given, 'onVerdict'),
    warn,
    isOwnKey: given['key'] !== undefined,
  };
}

function readLimits<Request, Response>(given: Given): LimitSettings<Request, Response> {
  const { limiter, limit } = given;
  const windowSeconds = positive(given, 'windowSeconds', 60);
  if (limiter !== undefined) {
    requireLimiter(limiter, 'limiter');
  } else if (typeof limit !== 'number' && typeof limit !== 'function') {
    const accepted = 'a whole number of at least 1 or a function, unless limiter is given';
    throw invalidValue('ERR_LIMITER_OPTION', 'limit', limit, accepted);
  }
  return {
    limiter,
    limit: limit as number | Asked<Request, Response, number>,
    windowSeconds,
    limiterOptions: Object.fromEntries(LIMITER_OPTIONS.map((name) => [name, given[name]])),
  };
}

function readKey<Request, Response>(
  given: Given,
  raw: (request: Request) => IncomingMessage,
  warn: Warn,
): Asked<Request, Response, string> {
  const key = callback<Asked<Request, Response, string>>(given, 'key');
  if (key !== undefined) return key;
  const keyOf = clientKey(given, warn);
  return (request) => keyOf(raw(request));
}

function requireNone(given: Given, name: string, excluded: readonly string[]): void {
  const unused = excluded.find((other) => given[other] !== undefined);
  if (given[name] === undefined || unused === undefined) return;
  const message = `${unused} must not be given together with ${name}, which makes it ineffective`;
  throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}

function readCost<Request, Response>(given: Given): Asked<Request, Response, number> {
  const { cost = 1 } = given;
  if (typeof cost === 'function') return cost as Asked<Request, Response, number>;
  const constant = nonNegative({ cost }, 'cost', 1);
  return () => constant;
}

const DRAFTS: readonly unknown[] = [11, 7, 6, 'legacy'];

function readDrafts({ headers = 11 }: Given): readonly Draft[] {
  const drafts = headers === false ? [] : Array.isArray(headers) ? headers : [headers];
  // Drafts 11, 7 and 6 use the same field names with different contents.
  const clash = drafts.includes(11) && (drafts.includes(7) || drafts.includes(6));
  if (drafts.every((draft) => DRAFTS.includes(draft)) && !clash) return [...new Set(drafts)];
  const accepted = "11, 7, 6, 'legacy', an array of these (11 only with 'legacy'), or false";
  throw invalidValue('ERR_LIMITER_OPTION', 'headers', headers, accepted);
}

function readStatusCode({
  statusCode = 429,
}: Given): RequestLimiterOptions<never, never>['statusCode'] {
  if (typeof statusCode === 'function') {
    return (refusal: Unanswered) => requireStatusCode(statusCode(refusal), 'statusCode()');
  }
  const constant = requireStatusCode(statusCode, 'statusCode');
  return () => constant;
}

function requireStatusCode(value: unknown, name: string): number {
  const code = Number.isInteger(value) ? (value as number) : 0;
  if (code >= 400 && code <= 599) return code;
  throw invalidNumber('ERR_LIMITER_OPTION', name, value, 'a whole number from 400 to 599');
}

function readMessage<Request, Response>({ message }: Given) {
  if (message === undefined || typeof message === 'string' || typeof message === 'function') {
    return message as Message<Request, Response> | undefined;
  }
  if (typeof message === 'object' && message !== null) return message;
  throw invalidValue('ERR_LIMITER_OPTION', 'message', message, 'a string, an object or a function');
}

function text(given: Given, name: string): string | undefined {
  const value = given[name];
  if (value === undefined || typeof value === 'string') return value;
  throw invalidValue('ERR_LIMITER_OPTION', name, value, 'a string');
}
