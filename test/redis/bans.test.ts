// Bans of all nodes without a store: the book of them, and what waits for a store that does not answer, in virtual time.

import { DirectConnectionRateLimiter, OrderbookRateLimiter } from 'relay-limiter';
import { SharedBans } from 'relay-limiter/redis';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { BAN, NAMES, VALUES, VERSION } from '../../lib/redis/bans/ban-scripts.js';
import { BanBook } from '../../lib/redis/bans/local-bans.js';
import { VirtualTime } from './support/virtual-time.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe('a book of bans', () => {
  const level = (key: string, violations = 1) => ({ key, seconds: 0, violations });
  const ban = (key: string, seconds: number) => ({ key, seconds, violations: 0 });

  it('that is full forgets the oldest levels first, then bans that end soon', () => {
    const book = new BanBook(3);
    const keys = () => book.all(0).map(({ key }) => key);
    for (const key of ['a', 'b', 'c']) book.add(level(key), 0);
    book.add(level('a', 2), 0);
    book.add(ban('x', 100), 0);
    expect(keys()).toEqual(['c', 'a', 'x']);
    book.add(ban('y', 10), 0);
    book.add(ban('z', 50), 0);
    expect(keys()).toEqual(['x', 'y', 'z']);
    book.add(ban('w', 70), 0);
    expect(keys()).toEqual(['x', 'z', 'w']);
    expect(book.bans(0)).toBe(3);
  });

  it('makes room of what is over', () => {
    const book = new BanBook(1000);
    for (let i = 0; i < 500; i += 1) book.add(ban(`old-${i}`, 1), 0);
    for (let i = 0; i < 600; i += 1) book.add(ban(`new-${i}`, 100), 2);
    expect(book.bans(2)).toBe(600);
    expect(book.secondsLeft('new-0', 2)).toBe(100);
  });
});

/** A store that takes what it is told, unless that comes too late; and a client of it. */
class Store {
  readonly time = new VirtualTime();
  /** When bans end in it, by their names as JSON. */
  readonly ends = new Map<string, number>();
  /** Calls are neither answered nor refused. */
  isSilent = false;
  calls = 0;
  epoch = '';
  version = 0;
  #listener: (message: string) => void = () => {};
  #held: (() => void)[] = [];

  constructor() {
    this.time.install();
  }

  speak(): void {
    this.isSilent = false;
    for (const go of this.#held.splice(0)) go();
  }

  /** Another node has banned somebody, which is published. */
  ban(key: string, seconds: number): void {
    this.ends.set(key, this.time.now + seconds);
    this.epoch = 'epoch';
    this.version += 1;
    const { epoch, version } = this;
    const ban = { epoch, version, key, from: 'another', seconds, violations: 0 };
    this.#listener(JSON.stringify(ban));
  }

  /** Another node has lifted a ban, which this one does not hear of. */
  liftUnheard(key: string): void {
    this.ends.delete(key);
    this.version += 1;
  }

  client(): object {
    const nothing = () => {};
    const connection = { on: nothing, off: nothing, connect: async () => {}, destroy: nothing };
    return {
      ...connection,
      evalSha: nothing,
      eval: (text: string, call: { keys: string[]; arguments: string[] }) => this.#eval(text, call),
      duplicate: () => ({
        ...connection,
        subscribe: async (_: string, listener: (message: string) => void) => {
          this.#listener = listener;
        },
      }),
    };
  }

  async #eval(text: string, { keys, arguments: args }: { keys: string[]; arguments: string[] }) {
    this.calls += 1;
    if (this.isSilent) await new Promise<void>((go) => this.#held.push(go));
    const { now } = this.time;
    if (text === VERSION) return [this.epoch, String(this.version), String(now)];
    if (text === NAMES) {
      return [...this.ends].flatMap(([name, ends]) => [JSON.stringify(name), String(ends)]);
    }
    if (text === VALUES) {
      return keys.map((key) => `${(this.ends.get(key.split(':').at(-1) ?? '') ?? now) - now} 0`);
    }
    if (text !== BAN) throw new Error('ERR unknown script');
    const [name, , , latest, seconds] = args as [string, string, string, string, string];
    if (now > Number(latest)) return 'late';
    this.ends.set(JSON.parse(name), now + Number(seconds));
    return 1;
  }
}

describe('a store that does not answer', () => {
  it('is down after the deadline and asked nothing; bans told later have what is left of them', async () => {
    const store = new Store();
    const bans = new SharedBans({ client: store.client(), clock: () => store.time.now });
    await store.time.run(1);
    expect(bans.getStats().state).toBe('up');
    store.isSilent = true;
    store.calls = 0;
    const bannedAt = store.time.now;
    bans.ban('p', 4);
    await store.time.run(0.099);
    expect(bans.getStats().state).toBe('up');
    await store.time.run(0.002);
    expect(bans.getStats().state).toBe('down');
    for (let n = 0; n < 50; n += 1) bans.ban(`q${n}`, 60);
    await store.time.run(1.4);
    // Nothing gathers in a queue meanwhile.
    expect(store.calls).toBe(1);
    store.speak();
    await store.time.run(1);
    expect(bans.getStats()).toMatchObject({ state: 'up', waiting: 0 });
    expect(store.ends.get('p')).toBeCloseTo(bannedAt + 4);
    expect(store.ends.size).toBe(51);
    await bans.close();
  });
});

describe('a ban that was heard of before all were read', () => {
  it('is lifted where that is all there is to read', async () => {
    const store = new Store();
    const bans = new SharedBans({ client: store.client(), clock: () => store.time.now });
    const lifts: string[] = [];
    bans.on('lift', ({ key }) => lifts.push(key));
    await store.time.run(1);
    store.isSilent = true;
    store.ban('p', 60);
    expect(bans.isBanned('p')).toBe(true);
    await store.time.run(1);
    store.liftUnheard('p');
    store.speak();
    await store.time.run(1);
    expect(bans.getStats().state).toBe('up');
    expect(bans.isBanned('p')).toBe(false);
    expect(lifts).toEqual(['p']);
    await bans.close();
  });
});

describe('a ban that is found while all are read again', () => {
  it('stays, and is told', async () => {
    const store = new Store();
    const bans = new SharedBans({ client: store.client(), clock: () => store.time.now });
    const lifts: string[] = [];
    bans.on('lift', ({ key }) => lifts.push(key));
    await store.time.run(1);
    store.ban('first', 60);
    await store.time.run(1);
    store.liftUnheard('nobody');
    store.isSilent = true;
    // The node notices that it has missed a change, and asks for the number of the last one.
    store.ban('second', 60);
    bans.ban('p', 60);
    store.speak();
    await store.time.run(1);
    expect(['first', 'second', 'p'].map((key) => bans.isBanned(key))).toEqual([true, true, true]);
    expect(store.ends.has('p')).toBe(true);
    expect(lifts).toEqual([]);
    await bans.close();
  });
});

describe('a ban by hand in a limiter that is shared', () => {
  it('is told to the store and taken over by the other limiters', async () => {
    const store = new Store();
    const clock = () => store.time.now;
    const bans = new SharedBans({ client: store.client(), clock });
    const nicks = new OrderbookRateLimiter({ clock });
    const direct = new DirectConnectionRateLimiter({ clock });
    bans.share(nicks);
    bans.share(direct);
    await store.time.run(1);
    const bannedAt = store.time.now;
    nicks.ban('mallory', 60);
    expect([bans.isBanned('mallory'), direct.isBanned('mallory')]).toEqual([true, true]);
    await store.time.run(1);
    expect(store.ends.get('mallory')).toBeCloseTo(bannedAt + 60);
    await bans.close();
  });
});
