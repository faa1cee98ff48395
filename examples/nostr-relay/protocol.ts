// The messages of NIP-01: reads what clients send, and refuses what is malformed. The id of an event is verified. Its
// signature is not, because Node has no Schnorr signatures: a real relay must verify it before the limits by author,
// otherwise anybody can use up the limits of any author.

import { createHash } from 'node:crypto';
import type { RawData } from 'ws';

/** Bytes. A longer message closes its connection. */
export const MAX_MESSAGE = 131_072;
export const MAX_FILTERS = 10;
export const MAX_SUBSCRIPTION_ID = 64;
/** Seconds by which an event may be ahead of the relay's clock. */
export const MAX_AHEAD = 900;

export interface NostrEvent {
  readonly id: string;
  readonly pubkey: string;
  readonly created_at: number;
  readonly kind: number;
  readonly tags: readonly (readonly string[])[];
  readonly content: string;
  readonly sig: string;
}

export interface Filter {
  readonly ids?: ReadonlySet<unknown>;
  readonly authors?: ReadonlySet<unknown>;
  readonly kinds?: ReadonlySet<unknown>;
  /** By the name of the tag. */
  readonly tags: readonly (readonly [name: string, values: ReadonlySet<unknown>])[];
  readonly since: number;
  readonly until: number;
  readonly limit: number;
}

export type ClientMessage =
  | { readonly verb: 'EVENT'; readonly event: NostrEvent }
  | { readonly verb: 'REQ'; readonly id: string; readonly filters: readonly Filter[] }
  | { readonly verb: 'CLOSE'; readonly id: string };

export type RelayMessage =
  | readonly ['EVENT', subscription: string, event: NostrEvent]
  | readonly ['OK', event: string, accepted: boolean, reason: string]
  | readonly ['EOSE', subscription: string]
  | readonly ['CLOSED', subscription: string, reason: string]
  | readonly ['NOTICE', text: string];

/** A malformed message, with the reply to it. */
export class Invalid extends Error {
  readonly reply: RelayMessage;

  constructor(reason: string, replyTo: (reason: string) => RelayMessage) {
    super(reason);
    this.reply = replyTo(`invalid: ${reason}`);
  }
}

const notice = (text: string): RelayMessage => ['NOTICE', text];

/** @throws Invalid */
export function parse(data: RawData, isBinary: boolean): ClientMessage {
  const message: unknown = isBinary ? undefined : readJson(data.toString());
  if (!Array.isArray(message)) throw new Invalid('a message must be a JSON array', notice);
  const [verb, subject, ...rest] = message as unknown[];
  if (verb === 'EVENT') return { verb, event: readEvent(subject) };
  if (verb !== 'REQ' && verb !== 'CLOSE') {
    throw new Invalid('a message must begin with EVENT, REQ or CLOSE', notice);
  }
  if (typeof subject !== 'string' || subject === '' || subject.length > MAX_SUBSCRIPTION_ID) {
    const accepted = `a text of 1 to ${MAX_SUBSCRIPTION_ID} characters`;
    throw new Invalid(`the id of a subscription must be ${accepted}`, notice);
  }
  if (verb === 'CLOSE') return { verb, id: subject };
  const closed = (reason: string): RelayMessage => ['CLOSED', subject, reason];
  if (rest.length === 0 || rest.length > MAX_FILTERS) {
    throw new Invalid(`REQ must have 1 to ${MAX_FILTERS} filters`, closed);
  }
  const filters = rest.map(readFilter);
  if (filters.every((filter) => filter !== undefined)) return { verb, id: subject, filters };
  throw new Invalid('a filter must have fields of NIP-01 only', closed);
}

/** The serialized event's SHA-256. */
export function idOf(event: Omit<NostrEvent, 'id' | 'sig'>): string {
  const { pubkey, created_at, kind, tags, content } = event;
  const serialized = JSON.stringify([0, pubkey, created_at, kind, tags, content]);
  return createHash('sha256').update(serialized).digest('hex');
}

export function matches(event: NostrEvent, filter: Filter): boolean {
  return (
    (filter.ids?.has(event.id) ?? true) &&
    (filter.authors?.has(event.pubkey) ?? true) &&
    (filter.kinds?.has(event.kind) ?? true) &&
    event.created_at >= filter.since &&
    event.created_at <= filter.until &&
    filter.tags.every(([name, values]) =>
      event.tags.some(([tag, value]) => tag === name && values.has(value)),
    )
  );
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function readEvent(given: unknown): NostrEvent {
  const event = (isObject(given) ? given : {}) as Partial<NostrEvent>;
  const { id, pubkey, created_at, kind, tags, content, sig } = event;
  const hasId = isHex(id, 64);
  const refuse = (reason: string): RelayMessage =>
    hasId ? ['OK', id, false, reason] : notice(reason);
  const hasFields =
    hasId &&
    isHex(pubkey, 64) &&
    isHex(sig, 128) &&
    isWhole(created_at, Number.MAX_SAFE_INTEGER) &&
    isWhole(kind, 65_535) &&
    typeof content === 'string' &&
    Array.isArray(tags) &&
    tags.every((tag) => Array.isArray(tag) && tag.every((part) => typeof part === 'string'));
  if (!hasFields) throw new Invalid('an event must have the fields of NIP-01', refuse);
  const read = { id, pubkey, created_at, kind, tags, content, sig };
  if (idOf(read) !== id) throw new Invalid('the id is not that of the event', refuse);
  if (created_at > Date.now() / 1000 + MAX_AHEAD) {
    throw new Invalid('created_at is in the future', refuse);
  }
  return read;
}

/** Undefined if it is malformed. */
function readFilter(given: unknown): Filter | undefined {
  if (!isObject(given)) return undefined;
  const { since = 0, until = Infinity, limit = Infinity, ...lists } = given;
  const isNumber = (value: unknown) => typeof value === 'number' && value >= 0;
  if (![since, until, limit].every(isNumber)) return undefined;
  const entries = Object.entries(lists);
  const isKnown = (name: string) => /^(ids|authors|kinds|#[a-zA-Z])$/.test(name);
  if (!entries.every(([name, list]) => isKnown(name) && Array.isArray(list))) return undefined;
  const sets = entries.map(([name, list]) => [name, new Set(list as unknown[])] as const);
  const tags = sets.filter(([name]) => name.startsWith('#'));
  return {
    ...Object.fromEntries(sets.filter(([name]) => !name.startsWith('#'))),
    tags: tags.map(([name, values]) => [name.slice(1), values]),
    since: since as number,
    until: until as number,
    limit: limit as number,
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isHex(value: unknown, length: number): value is string {
  return typeof value === 'string' && value.length === length && /^[0-9a-f]*$/.test(value);
}

function isWhole(value: unknown, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most;
}
