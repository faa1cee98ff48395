// Reads and validates the options that the adapters share, once, before the first request.

import { SUBNET_OPTIONS } from '../address/address-key.js';
import { invalidNumber, invalidValue, limiterError } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';
import { callback, nonNegative, positive, readOptions } from '../common/options.js';
import { usesSubnets } from '../guard/client-scopes.js';
import { countsPerProcess, readWarnings, type Warn, warnOfCluster } from '../guard/misuse.js';
import type { Draft } from '../headers/format.js';
import type { AsyncLimiter } from '../limiters/async-limiter.js';
import { type AnyLimiter, isRuleLimiter, requireLimiter } from '../limiters/verdict.js';
import type { AnyRules } from '../rules/any-rules.js';
import type { BanPolicy, Cost, Keys } from '../rules/types.js';
import { CLIENT_OPTIONS, type Client, type ReadClient } from './client.js';
import type { LimitSettings } from './policies.js';
import type { Asked, LimitOptions, Message, Unanswered } from './types.js';

type Given = Readonly<Record<string, unknown>>;

/** Options that are passed to the limiters created for `limit`. */
const LIMITER_OPTIONS = ['engine', 'clock', 'maxPeers', 'disconnectThreshold', 'shared'] as const;

/** Each option here excludes the listed options, which would have no effect with it. */
export const EXCLUSIONS = {
  limiter: ['limit', 'windowSeconds', 'ban', ...LIMITER_OPTIONS],
  key: CLIENT_OPTIONS,
} as const;

/** The options that need a RuleLimiter, and those that a RuleLimiter excludes. */
export const RULE_OPTIONS = ['keys', 'action', 'plan'];
export const NOT_WITH_RULES = ['key', 'name'];

/** The names of the shared options. */
export const SHARED_OPTIONS = [
  ...Object.entries(EXCLUSIONS).flat(2),
  ...RULE_OPTIONS,
  'name',
  'cost',
  'refundWhen',
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
  readonly keys: Asked<Request, Response, Keys | undefined> | undefined;
  readonly action: Asked<Request, Response, string | undefined>;
  readonly plan: Asked<Request, Response, string | undefined>;
  readonly cost: Asked<Request, Response, Cost>;
  readonly refundWhen: Asked<Request, Response, boolean> | undefined;
  readonly skip: Asked<Request, Response, boolean> | undefined;
  readonly headers: readonly Draft[];
  readonly statusCode: (refusal: Unanswered) => number;
  readonly message: Message<Request, Response> | undefined;
  readonly onVerdict: LimitOptions<Request, Response>['onVerdict'];
  readonly warn: Warn;
  readonly client: Client<Request, Response>;
  /** Whether the user has set the option `key`. */
  readonly isOwnKey: boolean;
}

/**
 * Reads the shared options. `others` are the names of the caller's further options.
 * @throws `ERR_LIMITER_OPTION`
 */
export function readSharedOptions<Request, Response>(
  owner: string,
  options: unknown,
  others: readonly string[],
  readClient: ReadClient<Request, Response>,
): RequestLimiterOptions<Request, Response> {
  const given = readOptions(owner, options, [...SHARED_OPTIONS, ...others]);
  for (const [name, excluded] of Object.entries(EXCLUSIONS)) {
    if (given[name] !== undefined) requireNone(given, excluded, `together with ${name}`);
  }
  const hasRules = isRuleLimiter(given['limiter']);
  if (!hasRules) requireNone(given, RULE_OPTIONS, 'without a RuleLimiter as limiter');
  else {
    requireNone(given, NOT_WITH_RULES, 'together with a RuleLimiter');
    if (!usesSubnets(given['limiter'] as AnyRules)) {
      requireNone(given, SUBNET_OPTIONS, 'unless a RuleLimiter has a text scope "address"');
    }
  }
  const warn = readWarnings(given);
  const client = readClient(given, warn);
  const limits = readLimits(given);
  const limiter = given['limiter'] as object | undefined;
  if (limiter === undefined) warnOfCluster(warn, given['shared'] === undefined ? ['limit'] : []);
  else if (countsPerProcess(limiter)) warnOfCluster(warn, ['limiter']);
  return {
    ...limits,
    name: text(given, 'name'),
    key: callback<Asked<Request, Response, string>>(given, 'key') ?? client.key,
    keys: callback(given, 'keys'),
    action: textOrCallback(given, 'action', hasRules ? 'message' : undefined),
    plan: textOrCallback(given, 'plan', undefined),
    cost: readCost(given, hasRules),
    refundWhen: callback(given, 'refundWhen'),
    skip: callback(given, 'skip'),
    headers: readDrafts(given),
    statusCode: readStatusCode(given),
    message: readMessage(given),
    onVerdict: callback(given, 'onVerdict'),
    warn,
    client,
    isOwnKey: given['key'] !== undefined,
  };
}

function readLimits<Request, Response>(given: Given): LimitSettings<Request, Response> {
  const { limiter, limit, ban, refundWhen } = given;
  const windowSeconds = positive(given, 'windowSeconds', 60);
  if (limiter === undefined && typeof limit !== 'number' && typeof limit !== 'function') {
    const accepted = 'a whole number of at least 1 or a function, unless limiter is given';
    throw invalidValue('ERR_LIMITER_OPTION', 'limit', limit, accepted);
  }
  // Each number would need a table of the full size, of a name of its own.
  if (typeof limit === 'function')
    requireNone(given, ['shared'], 'together with a function as limit');
  const refunds = refundWhen !== undefined;
  const isRules = isRuleLimiter(limiter);
  if (limiter !== undefined && !isRules) {
    requireLimiter(limiter, 'limiter');
    if (refunds) throw invalidRefunds(limiter);
  }
  for (const [name, isGiven] of Object.entries({ ban: ban !== undefined, refundWhen: refunds })) {
    if (isGiven) requireNone(given, ['disconnectThreshold'], `together with ${name}`);
  }
  return {
    limiter: isRules ? undefined : (limiter as AnyLimiter | AsyncLimiter | undefined),
    rules: isRules ? (limiter as AnyRules) : undefined,
    limit: limit as number | Asked<Request, Response, number>,
    windowSeconds,
    limiterOptions: Object.fromEntries(LIMITER_OPTIONS.map((name) => [name, given[name]])),
    ban: ban as BanPolicy | undefined,
    refunds,
  };
}

function invalidRefunds(limiter: unknown): Error {
  const accepted = 'a RuleLimiter, or absent with limit, if refundWhen is given';
  return invalidValue('ERR_LIMITER_OPTION', 'limiter', limiter, accepted);
}

/** `why`: "together with key". */
function requireNone(given: Given, names: readonly string[], why: string): void {
  const unused = names.find((name) => given[name] !== undefined);
  if (unused === undefined) return;
  const message = `${unused} must not be given ${why}, where it has no effect`;
  throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}

function readCost<Request, Response>(
  { cost = 1 }: Given,
  hasUnits: boolean,
): Asked<Request, Response, Cost> {
  if (typeof cost === 'function') return cost as Asked<Request, Response, Cost>;
  if (hasUnits && isRecord(cost)) {
    const costs = { ...cost } as Record<string, number>;
    for (const unit of Object.keys(costs)) nonNegative(costs, unit, 0);
    return () => costs;
  }
  const constant = nonNegative({ cost }, 'cost', 1);
  return () => constant;
}

function textOrCallback<Request, Response>(
  given: Given,
  name: string,
  fallback: string | undefined,
): Asked<Request, Response, string | undefined> {
  const value = given[name];
  if (typeof value === 'function') return value as Asked<Request, Response, string | undefined>;
  const constant = value === undefined ? fallback : value;
  if (constant === undefined || typeof constant === 'string') return () => constant;
  throw invalidValue('ERR_LIMITER_OPTION', name, value, 'a string or a function');
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

function readStatusCode({ statusCode }: Given): RequestLimiterOptions<never, never>['statusCode'] {
  if (statusCode === undefined) return ({ reason }) => (reason === 'denied' ? 403 : 429);
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
