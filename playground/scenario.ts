// What the playground simulates: the options of a RuleLimiter and the senders whose messages it checks. A scenario is plain
// JSON, so that a text field can hold it and a link can carry it.

import type { Cost, Keys, RuleLimiterOptions } from 'relay-limiter';

/** Options that JSON can express. */
export type Options = Omit<RuleLimiterOptions, 'onBan' | 'random' | 'clock' | 'cleanup'>;

/** A source of messages. */
export interface Sender {
  readonly name: string;
  /** Keys by scope. `{n}` stands for the number of the peer, 1 to `peers`. */
  readonly keys: Keys;
  /** Messages per second, more than 0. */
  readonly perSecond: number;
  /** Messages that are sent at the same instant, at least 1. Default 1. `perSecond` stays the average. */
  readonly atOnce?: number;
  /** Seconds. Default 0. */
  readonly from?: number;
  /** Seconds. Default: the end of the simulation. */
  readonly until?: number;
  /** The number of peers that send in turn. Default 1. */
  readonly peers?: number;
  /** Whether the sender waits for the delay after a refusal and repeats the message. Default false. */
  readonly waits?: boolean;
  readonly action?: string;
  readonly cost?: Cost;
  readonly plan?: string;
}

export interface Scenario {
  readonly options: Options;
  readonly senders: readonly Sender[];
}

export class InvalidScenario extends Error {}

const MAX_SENDERS = 8;
const MAX_PEERS = 1000;

/**
 * Checks the senders. The RuleLimiter checks its options, and the keys, costs and plans of the senders.
 *
 * @throws InvalidScenario
 */
export function checkSenders(senders: unknown): asserts senders is readonly Sender[] {
  if (!Array.isArray(senders) || senders.length < 1 || senders.length > MAX_SENDERS) {
    throw new InvalidScenario(`senders must be an array of 1 to ${MAX_SENDERS} senders`);
  }
  for (const [index, sender] of senders.entries()) checkSender(`senders[${index}]`, sender);
}

const FIELDS: Readonly<Record<keyof Sender, (value: unknown) => string | undefined>> = {
  name: (value) => (typeof value === 'string' && value !== '' ? undefined : 'a text'),
  keys: (value) => (isRecord(value) ? undefined : 'an object of keys by scope'),
  perSecond: number(0.01, 1000),
  atOnce: optional(number(1, 1000)),
  from: optional(number(0, 3600)),
  until: optional(number(0, 3600)),
  peers: optional(number(1, MAX_PEERS)),
  waits: optional((value) => (typeof value === 'boolean' ? undefined : 'true or false')),
  action: () => undefined,
  cost: () => undefined,
  plan: () => undefined,
};

function checkSender(what: string, sender: unknown): void {
  if (!isRecord(sender)) throw new InvalidScenario(`${what} must be an object`);
  for (const name of Object.keys(sender)) {
    if (!(name in FIELDS)) throw new InvalidScenario(`${what} has an unknown field, "${name}"`);
  }
  for (const [name, problem] of Object.entries(FIELDS)) {
    const accepted = problem(sender[name]);
    if (accepted !== undefined) {
      const given = JSON.stringify(sender[name]) ?? 'nothing';
      throw new InvalidScenario(`${what}.${name} must be ${accepted}, got ${given}`);
    }
  }
}

function number(least: number, most: number): (value: unknown) => string | undefined {
  return (value) =>
    typeof value === 'number' && value >= least && value <= most
      ? undefined
      : `a number from ${least} to ${most}`;
}

function optional(check: (value: unknown) => string | undefined) {
  return (value: unknown) => (value === undefined ? undefined : check(value));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Returns the scenario as the fragment of a link. */
export function toFragment(scenario: Scenario): string {
  const bytes = new TextEncoder().encode(JSON.stringify(scenario));
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** Returns the scenario of a link's fragment; undefined if it holds none. Its values are not checked. */
export function fromFragment(fragment: string): Scenario | undefined {
  try {
    const binary = atob(fragment.replaceAll('-', '+').replaceAll('_', '/'));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return isRecord(value) && isRecord(value['options']) ? (value as never) : undefined;
  } catch {
    return undefined;
  }
}
