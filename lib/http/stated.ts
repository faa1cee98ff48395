// Policies as they are stated in the fields of a response, and their state.

import { type Draft, formatNamed, type RateLimitStatement } from '../headers/format.js';

/** The quota of a key directly after a check. Seconds may be fractions, or Infinity. */
export interface QuotaState {
  /** Whole tokens. */
  readonly remaining: number;
  /** Seconds until the next whole token is available. */
  readonly nextTokenSeconds: number;
  /** Seconds until the bucket is full. */
  readonly fullSeconds: number;
  /** Seconds until the limiter would allow the same request again; 0 if it would do so immediately. */
  readonly retrySeconds: number;
}

export interface NamedPolicy {
  readonly name: string;
  readonly quota: number;
  readonly windowSeconds: number | null;
  /** Default `requests`. */
  readonly unit?: string;
}

/** A policy and its state. */
export interface LimitedPolicy {
  readonly policy: StatedPolicy;
  readonly state: QuotaState;
}

export type Fields = readonly (readonly [name: string, value: string])[];

/** A policy with the parts of its fields that do not depend on the state. */
export class StatedPolicy implements NamedPolicy {
  readonly name: string;
  readonly quota: number;
  readonly windowSeconds: number | null;
  readonly unit: string;
  /** The name as a quoted item of draft 11; empty unless that is sent. */
  readonly item: string;
  readonly wholeQuota: number;

  /** `label`: what errors call the policy. @throws `ERR_LIMITER_OPTION` if the name cannot be expressed. */
  constructor(
    { name, quota, windowSeconds, unit = 'requests' }: NamedPolicy,
    hasItem: boolean,
    label: string,
  ) {
    this.name = name;
    this.quota = quota;
    this.windowSeconds = windowSeconds;
    this.unit = unit;
    this.item = hasItem ? quotedName(name, label) : '';
    this.wholeQuota = Math.floor(quota);
  }
}

/** Policies that are stated together, and their constant fields in all drafts. */
export interface StatedPolicies {
  readonly policies: readonly StatedPolicy[];
  readonly fields: Fields;
}

/** The name as a quoted item: the part of a formatted policy before its first parameter. */
function quotedName(name: string, label: string): string {
  const info = { policies: [{ name, quota: 0 }] };
  const { 'RateLimit-Policy': text = '' } = formatNamed(info, 11, 0, label);
  return text.slice(0, text.lastIndexOf(';q='));
}

/** `label`: what errors call each policy. */
export function format(info: RateLimitStatement, draft: Draft, label?: string): Fields {
  return Object.entries(formatNamed(info, draft, Date.now(), label)).map(([name, value]) => [
    name.toLowerCase(),
    value,
  ]);
}
