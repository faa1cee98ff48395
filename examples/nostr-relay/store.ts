// The last events of the relay, in memory, after the kinds of NIP-01: regular ones are kept, of replaceable ones only the
// latest, ephemeral ones not at all.

import { type Filter, matches, type NostrEvent } from './protocol.js';

const MAX_EVENTS = 5000;
/** The most events that one filter returns. */
export const MAX_LIMIT = 500;

export class EventStore {
  /** By id, oldest arrival first. */
  readonly #events = new Map<string, NostrEvent>();
  /** The replaceable events, by what replaces them. */
  readonly #latest = new Map<string, NostrEvent>();

  /** All events, oldest arrival first. */
  get all(): NostrEvent[] {
    return [...this.#events.values()];
  }

  has(id: string): boolean {
    return this.#events.has(id);
  }

  /** Returns false if a later version of the event is stored. */
  add(event: NostrEvent): boolean {
    if (event.kind >= 20_000 && event.kind < 30_000) return true;
    const address = addressOf(event);
    if (address !== undefined) {
      const stored = this.#latest.get(address);
      if (stored !== undefined && newestFirst(stored, event) < 0) return false;
      if (stored !== undefined) this.#remove(stored);
      this.#latest.set(address, event);
    }
    this.#events.set(event.id, event);
    if (this.#events.size > MAX_EVENTS) {
      const [oldest] = this.#events.values();
      if (oldest !== undefined) this.#remove(oldest);
    }
    return true;
  }

  /** Returns the events that match any of the filters, newest first. */
  query(filters: readonly Filter[]): NostrEvent[] {
    const found = new Set<NostrEvent>();
    for (const filter of filters) {
      const matching = [...this.#events.values()].filter((event) => matches(event, filter));
      const most = Math.min(filter.limit, MAX_LIMIT);
      for (const event of matching.sort(newestFirst).slice(0, most)) found.add(event);
    }
    return [...found].sort(newestFirst);
  }

  #remove(event: NostrEvent): void {
    this.#events.delete(event.id);
    const address = addressOf(event);
    if (address !== undefined) this.#latest.delete(address);
  }
}

/** What identifies the versions of a replaceable event; undefined for other events. */
function addressOf({ kind, pubkey, tags }: NostrEvent): string | undefined {
  if (kind === 0 || kind === 3 || (kind >= 10_000 && kind < 20_000)) return `${kind}:${pubkey}:`;
  if (kind < 30_000 || kind >= 40_000) return undefined;
  return `${kind}:${pubkey}:${tags.find(([name]) => name === 'd')?.[1] ?? ''}`;
}

function newestFirst(a: NostrEvent, b: NostrEvent): number {
  return b.created_at - a.created_at || (a.id < b.id ? -1 : 1);
}
