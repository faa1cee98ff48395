// The fields of the IETF drafts (draft-ietf-httpapi-ratelimit-headers): the lists of -08 to -11 and of
// the draft to come, the dictionary of -07, the three fields of -00 to -06.

import { Token } from 'structured-headers';
import type { FieldReader } from './fields.js';
import type { ResetReader } from './resets.js';
import {
  count,
  countOfItem,
  dictionary,
  isBytes,
  isCount,
  isPositive,
  isString,
  list,
  type Member,
  type Parameters,
  plain,
} from './structured-fields.js';
import type { PartitionScheme, QuotaPolicy, ServiceLimit } from './types.js';

/** What the parameters must be that a draft names. */
type Types = Readonly<Record<string, (value: unknown) => boolean>>;

const POLICY: Types = { q: isCount, w: isPositive, qu: isString, pk: isBytes };

/** How a generation of lists spells what is left, and for how long. */
interface Spelling {
  remaining: string;
  reset: string;
  types: Types;
}

const PUBLISHED: Spelling = {
  remaining: 'r',
  reset: 't',
  types: { r: isCount, t: isCount, pk: isBytes },
};
const TO_COME: Spelling = {
  remaining: 'a',
  reset: 'w',
  types: { a: isCount, w: isCount, c: isCount, pk: isBytes },
};

/** RateLimit-Policy of all generations. */
export function readPolicies(fields: FieldReader): QuotaPolicy[] {
  // An empty list is none: at least one item is required.
  const members = fields.read('ratelimit-policy', (text) => (text === '' ? null : list(text)));
  return fields.items('ratelimit-policy', members ?? [], policyOf);
}

// A key and its equals sign cannot begin a list of names.
const IS_DICTIONARY = /^[a-z*][a-z0-9_\-.*]*=/;

/** RateLimit: a list, or the dictionary of -07. */
export function readLimits(fields: FieldReader): ServiceLimit[] {
  const found = fields.read<Member[] | ServiceLimit>('ratelimit', (text) =>
    !fields.strict && IS_DICTIONARY.test(text) ? limitOfDictionary(text) : list(text),
  );
  return Array.isArray(found) ? fields.items('ratelimit', found, limitOf) : found ? [found] : [];
}

/** RateLimit-Partition of the draft to come. */
export function readPartitions(fields: FieldReader): PartitionScheme[] {
  const members = fields.read('ratelimit-partition', list);
  return fields.items('ratelimit-partition', members ?? [], partitionOf);
}

/** The three fields of -00 to -06, and the policies that RateLimit-Limit named up to -03. */
export function readTriple(
  fields: FieldReader,
  readReset: ResetReader,
): { limits: ServiceLimit[]; policies: QuotaPolicy[] } {
  const [first, ...others] = fields.read('ratelimit-limit', limitWithPolicies) ?? [];
  const limit = count(first?.[0]);
  const remaining = fields.read('ratelimit-remaining', countOfItem);
  const resetSeconds = fields.read('ratelimit-reset', (text) => readReset(text, 'integer'));
  return {
    limits: limitOfFields({ name: null, limit, remaining, resetSeconds }),
    policies: fields.items('ratelimit-limit', others, policyOf, false),
  };
}

/** What a limit is of which nothing is said. */
const UNSAID: ServiceLimit = {
  name: null,
  limit: null,
  remaining: null,
  resetSeconds: null,
  partitionKey: null,
  cost: null,
};

/** A limit that is told in three fields, in a list; an empty one where none of them could be read. */
export function limitOfFields(
  told: Pick<ServiceLimit, 'name' | 'limit' | 'remaining' | 'resetSeconds'>,
): ServiceLimit[] {
  const nothing = told.limit === null && told.remaining === null && told.resetSeconds === null;
  return nothing ? [] : [{ ...UNSAID, ...told }];
}

function policyOf([item, parameters]: Member, strict: boolean): QuotaPolicy | null {
  if (!fits(parameters, POLICY)) return null;
  // Up to -07 the item is the quota, and its window is required.
  const nameless = !strict && isCount(item) && parameters.has('w');
  const name = nameless ? null : nameOf(item, strict);
  const quota = count(nameless ? item : parameters.get('q'));
  if (quota === null || (name === null && !nameless)) return null;
  return {
    name,
    quota,
    windowSeconds: count(parameters.get('w')),
    unit: (parameters.get('qu') as string | undefined) ?? 'requests',
    partitionKey: partitionKeyOf(parameters),
    parameters: othersOf(parameters),
  };
}

function limitOf([item, parameters]: Member, strict: boolean): ServiceLimit | null {
  const { remaining, reset, types } = strict || parameters.has('r') ? PUBLISHED : TO_COME;
  const name = nameOf(item, strict);
  if (name === null || !parameters.has(remaining) || !fits(parameters, types)) return null;
  return {
    name,
    limit: null,
    remaining: count(parameters.get(remaining)),
    resetSeconds: count(parameters.get(reset)),
    partitionKey: partitionKeyOf(parameters),
    cost: strict ? null : count(parameters.get('c')),
  };
}

function partitionOf([item, parameters]: Member, strict: boolean): PartitionScheme | null {
  const name = nameOf(item, strict);
  return name === null ? null : { name, keys: [...parameters.keys()] };
}

function limitOfDictionary(text: string): ServiceLimit | null {
  const members = dictionary(text);
  const value = (key: string) => members?.get(key)?.[0];
  const limit = count(value('limit'));
  const resetSeconds = count(value('reset'));
  const remaining = value('remaining');
  if (limit === null || resetSeconds === null) return null;
  if (remaining !== undefined && !isCount(remaining)) return null;
  return { ...UNSAID, limit, remaining: count(remaining), resetSeconds };
}

function limitWithPolicies(text: string): Member[] | null {
  const members = list(text.replace(QUOTED_OR_SEMICOLON, withoutSpace));
  return isCount(members?.[0]?.[0]) ? members : null;
}

// The grammar of -00 allowed space before and after a semicolon.
const QUOTED_OR_SEMICOLON = /"(?:\\.|[^"\\])*"?|[ \t]+(?:;[ \t]*)?|;[ \t]*/g;

function withoutSpace(piece: string): string {
  return piece.includes('"') || !piece.includes(';') ? piece : ';';
}

/** Up to -10 examples had Tokens for names, and the draft to come allows them. */
function nameOf(item: Member[0], strict: boolean): string | null {
  if (typeof item === 'string') return item;
  return item instanceof Token && !strict ? item.toString() : null;
}

function partitionKeyOf(parameters: Parameters): string | null {
  const bytes = parameters.get('pk');
  return bytes === undefined ? null : (plain(bytes) as string);
}

function othersOf(parameters: Parameters): Record<string, unknown> {
  const others: [string, unknown][] = [];
  for (const [key, value] of parameters) {
    if (!Object.hasOwn(POLICY, key)) others.push([key, plain(value)]);
  }
  return Object.fromEntries(others);
}

function fits(parameters: Parameters, types: Types): boolean {
  for (const key in types) {
    const value = parameters.get(key);
    if (value !== undefined && !types[key]?.(value)) return false;
  }
  return true;
}
