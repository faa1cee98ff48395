// The fields of the IETF drafts since -07 (draft-ietf-httpapi-ratelimit-headers): the lists of -08 to -11 and of the
// next draft, and the dictionary of -07.

import { Token } from 'structured-headers';
import type { FieldReader } from './fields.js';
import {
  isBytes,
  isCount,
  isPositive,
  isString,
  type Member,
  type Parameters,
  readDictionary,
  readList,
  toCount,
  toPlainValue,
} from './structured-fields.js';
import type { PartitionScheme, QuotaPolicy, ServiceLimit } from './types.js';

/** The names of the fields that this file reads. */
export const DRAFT_FIELDS = ['ratelimit-policy', 'ratelimit', 'ratelimit-partition'] as const;

/** The types of the parameters that a draft defines. */
type ParameterTypes = Readonly<Record<string, (value: unknown) => boolean>>;

const POLICY_PARAMETERS: ParameterTypes = { q: isCount, w: isPositive, qu: isString, pk: isBytes };

/** The parameters of a limit in one generation of lists. */
interface LimitParameters {
  remaining: string;
  reset: string;
  types: ParameterTypes;
}

const PUBLISHED_DRAFTS: LimitParameters = {
  remaining: 'r',
  reset: 't',
  types: { r: isCount, t: isCount, pk: isBytes },
};
const NEXT_DRAFT: LimitParameters = {
  remaining: 'a',
  reset: 'w',
  types: { a: isCount, w: isCount, c: isCount, pk: isBytes },
};

/** Reads RateLimit-Policy of all generations, or a vendor's field with the same syntax. */
export function readPolicies(fields: FieldReader, field = 'ratelimit-policy'): QuotaPolicy[] {
  return fields.items(field, fields.read(field, readList) ?? [], toPolicy);
}

// A list of names cannot begin with a key and an equals sign.
const IS_DICTIONARY = /^[a-z*][a-z0-9_\-.*]*=/;

/** Reads RateLimit: a list, or the dictionary of -07. */
export function readLimits(fields: FieldReader): ServiceLimit[] {
  const found = fields.read<Member[] | ServiceLimit>('ratelimit', (text) =>
    !fields.isStrict && IS_DICTIONARY.test(text) ? readLimitDictionary(text) : readList(text),
  );
  return Array.isArray(found) ? fields.items('ratelimit', found, toLimit) : found ? [found] : [];
}

/** Reads RateLimit-Partition of the next draft. */
export function readPartitions(fields: FieldReader): PartitionScheme[] {
  const members = fields.read('ratelimit-partition', readList);
  return fields.items('ratelimit-partition', members ?? [], toPartition);
}

const EMPTY_LIMIT: ServiceLimit = {
  name: null,
  limit: null,
  remaining: null,
  resetSeconds: null,
  partitionKey: null,
  cost: null,
};

/** Returns the policy of a list's member; null if it is invalid. */
export function toPolicy([item, parameters]: Member, isStrict: boolean): QuotaPolicy | null {
  if (!hasValidTypes(parameters, POLICY_PARAMETERS)) return null;
  // Up to -07 the item is the quota, and its window is required.
  const isNameless = !isStrict && isCount(item) && parameters.has('w');
  const name = isNameless ? null : toName(item, isStrict);
  const quota = toCount(isNameless ? item : parameters.get('q'));
  if (quota === null || (name === null && !isNameless)) return null;
  return {
    name,
    quota,
    windowSeconds: toCount(parameters.get('w')),
    unit: (parameters.get('qu') as string | undefined) ?? 'requests',
    partitionKey: partitionKeyOf(parameters),
    parameters: undefinedParameters(parameters),
  };
}

function toLimit([item, parameters]: Member, isStrict: boolean): ServiceLimit | null {
  const isPublished = isStrict || parameters.has('r');
  const { remaining, reset, types } = isPublished ? PUBLISHED_DRAFTS : NEXT_DRAFT;
  const name = toName(item, isStrict);
  if (name === null || !parameters.has(remaining) || !hasValidTypes(parameters, types)) return null;
  return {
    name,
    limit: null,
    remaining: toCount(parameters.get(remaining)),
    resetSeconds: toCount(parameters.get(reset)),
    partitionKey: partitionKeyOf(parameters),
    cost: isStrict ? null : toCount(parameters.get('c')),
  };
}

function toPartition([item, parameters]: Member, isStrict: boolean): PartitionScheme | null {
  const name = toName(item, isStrict);
  return name === null ? null : { name, keys: [...parameters.keys()] };
}

function readLimitDictionary(text: string): ServiceLimit | null {
  const members = readDictionary(text);
  const value = (key: string) => members?.get(key)?.[0];
  const limit = toCount(value('limit'));
  const resetSeconds = toCount(value('reset'));
  const remaining = value('remaining');
  if (limit === null || resetSeconds === null) return null;
  if (remaining !== undefined && !isCount(remaining)) return null;
  return { ...EMPTY_LIMIT, limit, remaining: toCount(remaining), resetSeconds };
}

/** Returns a name: a String, or a Token as in examples up to -10 and in the next draft. */
function toName(item: Member[0], isStrict: boolean): string | null {
  if (typeof item === 'string') return item;
  return item instanceof Token && !isStrict ? item.toString() : null;
}

function partitionKeyOf(parameters: Parameters): string | null {
  const bytes = parameters.get('pk');
  return bytes === undefined ? null : (toPlainValue(bytes) as string);
}

/** Returns the parameters that no draft defines. */
function undefinedParameters(parameters: Parameters): Record<string, unknown> {
  const entries: [string, unknown][] = [];
  for (const [key, value] of parameters) {
    if (!Object.hasOwn(POLICY_PARAMETERS, key)) entries.push([key, toPlainValue(value)]);
  }
  return Object.fromEntries(entries);
}

function hasValidTypes(parameters: Parameters, types: ParameterTypes): boolean {
  for (const key in types) {
    const value = parameters.get(key);
    if (value !== undefined && !types[key]?.(value)) return false;
  }
  return true;
}
