// Limits that three fields describe: the quota, what remains of it, and the reset. The first drafts and most vendors
// have such fields, with one value or with several: `42`, `0, 1000`, `100;w=21600`, `10, 10;w=1`.

import { toPolicy } from './drafts.js';
import type { FieldReader } from './fields.js';
import { isNoLimit, type LimitIdentity, limitsOf } from './limits.js';
import { BELOW_ZERO, parseAmount, parseDecimal } from './numbers.js';
import type { Reset, ResetReader } from './resets.js';
import { type Member, readList } from './structured-fields.js';
import type { RateLimitInfo } from './types.js';

/** The names of the fields. */
export interface Triple extends LimitIdentity {
  readonly limit: string;
  readonly remaining: string;
  readonly reset: string;
  /** A field that is always in seconds from now. It overrides `reset`. */
  readonly resetAfter?: string | undefined;
  /** Whether a `remaining` below 0 means 0. Otherwise it is invalid. */
  readonly countsBelowZero: boolean;
}

export type Found = Pick<RateLimitInfo, 'limits' | 'policies'>;

/** Reads the limits of three fields, and the policies in the first of them, as in the drafts up to -03. */
export function readTriple(fields: FieldReader, triple: Triple, readReset: ResetReader): Found {
  const items = fields.read(triple.limit, readQuotas) ?? [];
  const plain = items.filter(([, parameters]) => !parameters.has('w'));
  const policies =
    plain.length === items.length ? [] : items.filter((item) => !plain.includes(item));
  const quotas = plain.length > 0 ? plain : policies;
  if (quotas.length > 0 && quotas.every(([quota]) => isNoLimit(quota))) {
    return { limits: [], policies: [] };
  }
  const parse = triple.countsBelowZero ? parseAmount : parseDecimal;
  const remaining = fields.read(triple.remaining, (text) => readValues(text, parse)) ?? [];
  // Without as many amounts of what remains, only the first number is a limit.
  const isList = quotas.length === remaining.length;
  const limits = isList ? quotas : quotas.slice(0, 1);
  const others = isList ? [] : plain.slice(1);
  return {
    limits: limitsOf(
      triple,
      limits.map(([quota]) => quota),
      remaining,
      readResets(fields, triple, readReset),
    ),
    policies: fields.items(triple.limit, [...policies, ...others], toPolicy, false),
  };
}

function readResets(fields: FieldReader, triple: Triple, readReset: ResetReader): Reset[] {
  const { reset, resetAfter } = triple;
  const after = resetAfter === undefined ? null : fields.read(resetAfter, readResetAfter);
  return after ?? fields.read(reset, (text) => readValues(text, readReset)) ?? [];
}

function readResetAfter(text: string): Reset[] | null {
  return readValues(text, (value) => {
    const seconds = parseDecimal(value);
    return seconds === null ? null : { seconds, isExact: value.includes('.') };
  });
}

type Quota = [quota: number, parameters: Member[1]];

const NO_PARAMETERS: Member[1] = new Map();

/** Returns the numbers with their parameters; null if any of them is no number. */
function readQuotas(text: string): Quota[] | null {
  const values = readValuesAlone(text);
  if (values !== null) return values.map((value) => [value, NO_PARAMETERS]);
  const members = readList(text.replace(QUOTED_OR_SEMICOLON, removeSpace));
  if (members === null || members.length === 0) return null;
  if (!members.every(([item]) => Number.isInteger(item))) return null;
  return members.map(([item, parameters]) => [Math.max(item as number, BELOW_ZERO), parameters]);
}

function readValuesAlone(text: string): number[] | null {
  return text.includes(';') ? null : readValues(text, parseAmount);
}

/**
 * Returns the value of a field, or its values if it is a list, without their parameters. Null if any value is invalid.
 */
function readValues<T>(text: string, parse: (text: string) => T | null): T[] | null {
  // Not split at once, because dates contain commas.
  const whole = parse(text);
  if (whole !== null) return [whole];
  const values: T[] = [];
  for (const item of text.split(',')) {
    const value = parse((item.split(';', 1)[0] as string).trim());
    if (value === null) return null;
    values.push(value);
  }
  return values;
}

// The grammar of -00 allows spaces before and after a semicolon; Structured Fields do not allow those before.
const QUOTED_OR_SEMICOLON = /"(?:\\.|[^"\\])*"?|[ \t]+(?:;[ \t]*)?|;[ \t]*/g;

function removeSpace(piece: string): string {
  return piece.includes('"') || !piece.includes(';') ? piece : ';';
}
