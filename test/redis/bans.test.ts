// LocalBans, and SharedBans with a store that does not answer, in virtual time.

import { DirectConnectionRateLimiter, OrderbookRateLimiter } from 'relay-limiter';
import { SharedBans } from 'relay-limiter/redis';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { BAN, INDEX_PAGE, LIFT, VALUES, VERSION } from '../../lib/redis/bans/ban-scripts.js';
import { LocalBans } from '../../lib/redis/bans/local-bans.js';
import { VirtualTime } from './support/virtual-time.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe('LocalBans', () => {
  const level = (key: string, violations = 1) => ({ key, seconds: 0, violations });
  const ban = (key: string, seconds: number) => ({ key, seconds, violations: 0 });

  it('evicts the oldest violations first, then bans that end soon', () => {
    const localBans = new LocalBans(3);
    const keys = () => localBans.all(0).map(({ key }) => key);
    for (const key of ['a', 'b', 'c']) localBans.add(level(key), 0);
    localBans.add(level('a', 2), 0);
    localBans.add(ban('x', 100), 0);
    expect(keys()).toEqual(['c', 'a', 'x']);
    localBans.add(ban('y', 10), 0);
    localBans.add(ban('z', 50), 0);
    expect(keys()).toEqual(['x', 'y', 'z']);
    localBans.add(ban('w', 70), 0);
    expect(keys()).toEqual(['x', 'z', 'w']);
    expect(localBans.countBans(0)).toBe(3);
  });

  it('deletes expired bans', () => {
    const localBans = new LocalBans(1000);
    for (let i = 0; i < 500; i += 1) localBans.add(ban(`old-${i}`, 1), 0);
    for (let i = 0; i < 600; i += 1) localBans.add(ban(`new-${i}`, 100), 2);
    expect(localBans.countBans(2)).toBe(600);
    expect(localBans.secondsLeft('new-0', 2)).toBe(100);
  });
});

/** A store that accepts all changes except late ones, and publishes lifts, and clients of it. */
class Store {
  readonly time = new VirtualTime();
  /** When each ban ends, by the peer's id. */
  readonly ends = new Map<string, number>();
  /** Whether calls are held: neither answered nor refused. */
  isSilent = false;
  calls = 0;
  epoch = '';
  version = 0;
  #listener: (message: string) => void = () => {};
  #held: (() => void)[] = [];

  constructor() {
    this.time.install();
  }

  /** Ends the silence: held calls go on. */
  endSilence(): void {
    this.isSilent = false;
    for (const resume of this.#held.splice(0)) resume();
  }

  /** Another node bans a peer, which is published. */
  ban(key: string, seconds: number): void {
    this.ends.set(key, this.time.now + seconds);
    this.epoch = 'epoch';
    this.version += 1;
    const { epoch, version } = this;
    const ban = { epoch, version, key, from: 'another node', seconds, violations: 0 };
    this.#listener(JSON.stringify(ban));
  }

  /** Another node lifts a ban; the message is lost. */
  liftUnnoticed(key: string): void {
    this.ends.delete(key);
    this.version += 1;
  }

  client(): object {
    const noop = () => {};
    const connection = { on: noop, off: noop, connect: async () => {}, destroy: noop };
    return {
      ...connection,
      evalSha: noop,
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
    if (this.isSilent) await new Promise<void>((resume) => this.#held.push(resume));
    const { now } = this.time;
    if (text === VERSION) return [this.epoch, String(this.version), String(now)];
    if (text === INDEX_PAGE) {
      return [...this.ends].flatMap(([name, ends]) => [JSON.stringify(name), String(ends)]);
    }
    if (text === VALUES) {
      return keys.map((key) => `${(this.ends.get(key.split(':').at(-1) ?? '') ?? now) - now} 0`);
    }
    if (text !== BAN && text !== LIFT) throw new Error('ERR unknown script');
    const [name, epoch, from, latest, seconds] = args as [string, string, string, string, string];
    if (now > Number(latest)) return 'late';
    if (text === LIFT) {
      this.epoch ||= epoch;
      this.version += 1;
      const key = JSON.parse(name);
      this.ends.delete(key);
      const { version } = this;
      this.#listener(JSON.stringify({ epoch: this.epoch, version, key, from, lifted: true }));
      return 1;
    }
    this.ends.set(JSON.parse(name), now + Number(seconds));
    return 1;
  }
}

describe('SharedBans', () => {
  it('makes no calls to a silent store, and later sends bans with their remaining time', async () => {
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
    // No calls pile up in the meantime.
    expect(store.calls).toBe(1);
    store.endSilence();
    await store.time.run(1);
    expect(bans.getStats()).toMatchObject({ state: 'up', waiting: 0 });
    expect(store.ends.get('p')).toBeCloseTo(bannedAt + 4);
    expect(store.ends.size).toBe(51);
    await bans.close();
  });

  it('lifts a ban that it received before its first read, if that read does not contain it', async () => {
    const store = new Store();
    const bans = new SharedBans({ client: store.client(), clock: () => store.time.now });
    const lifts: string[] = [];
    bans.on('lift', ({ key }) => lifts.push(key));
    await store.time.run(1);
    store.isSilent = true;
    store.ban('p', 60);
    expect(bans.isBanned('p')).toBe(true);
    await store.time.run(1);
    store.liftUnnoticed('p');
    store.endSilence();
    await store.time.run(1);
    expect(bans.getStats().state).toBe('up');
    expect(bans.isBanned('p')).toBe(false);
    expect(lifts).toEqual(['p']);
    await bans.close();
  });

  it('keeps and sends a ban that it finds while it reads all bans again', async () => {
    const store = new Store();
    const bans = new SharedBans({ client: store.client(), clock: () => store.time.now });
    const lifts: string[] = [];
    bans.on('lift', ({ key }) => lifts.push(key));
    await store.time.run(1);
    store.ban('first', 60);
    await store.time.run(1);
    store.liftUnnoticed('another peer');
    store.isSilent = true;
    // The node notices that it has missed a change, and reads the version.
    store.ban('second', 60);
    bans.ban('p', 60);
    store.endSilence();
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

  it('is lifted everywhere by an unban of one of the limiters', async () => {
    const store = new Store();
    const clock = () => store.time.now;
    const bans = new SharedBans({ client: store.client(), clock });
    const nicks = new OrderbookRateLimiter({ clock });
    const direct = new DirectConnectionRateLimiter({ clock });
    for (const limiter of [nicks, direct]) bans.share(limiter);
    await store.time.run(1);
    nicks.ban('mallory', 60, 7);
    await store.time.run(1);
    const isBanned = () => [nicks, direct, bans].map((each) => each.isBanned('mallory'));
    expect([isBanned(), store.ends.has('mallory')]).toEqual([[true, true, true], true]);
    expect([direct.unban('alice'), direct.unban('mallory')]).toEqual([false, true]);
    expect(isBanned()).toEqual([false, false, false]);
    expect([nicks, direct].map((each) => each.getViolationCount('mallory'))).toEqual([0, 0]);
    await store.time.run(1);
    expect(isBanned()).toEqual([false, false, false]);
    expect(store.ends.has('mallory')).toBe(false);
    await bans.close();
    // A limiter that is not shared any more ends its own bans only.
    nicks.ban('eve', 60);
    expect([nicks.unban('eve'), bans.getStats().waiting]).toEqual([true, 0]);
  });
});
