// LocalBans, and SharedBans with a store that does not answer, in virtual time.

import { DirectConnectionRateLimiter, OrderbookRateLimiter } from 'relay-limiter';
import { SharedBans, type SharedBansOptions } from 'relay-limiter/redis';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { LocalBans } from '../../lib/redis/bans/local-bans.js';
import { SimulatedBans } from './support/simulated-bans.js';
import { VirtualTime } from './support/virtual-time.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe('LocalBans', () => {
  const level = (key: string, violations = 1) => ({ key, seconds: 0, violations });
  const ban = (key: string, seconds: number) => ({ key, seconds, violations: 0 });
  /** A moment by this process's clock; the fleet's is elsewhere. */
  const at = (here: number) => ({ here, fleet: here + 1e6 });

  it('evicts the oldest violations first, then bans that end soon', () => {
    const localBans = new LocalBans(3);
    const keys = () => localBans.all(0).map(({ key }) => key);
    for (const key of ['a', 'b', 'c']) localBans.add(level(key), at(0));
    localBans.add(level('a', 2), at(0));
    localBans.add(ban('x', 100), at(0));
    expect(keys()).toEqual(['c', 'a', 'x']);
    localBans.add(ban('y', 10), at(0));
    localBans.add(ban('z', 50), at(0));
    expect(keys()).toEqual(['x', 'y', 'z']);
    localBans.add(ban('w', 70), at(0));
    expect(keys()).toEqual(['x', 'z', 'w']);
    expect(localBans.countBans(0)).toBe(3);
  });

  it('deletes expired bans', () => {
    const localBans = new LocalBans(1000);
    for (let i = 0; i < 500; i += 1) localBans.add(ban(`old-${i}`, 1), at(0));
    for (let i = 0; i < 600; i += 1) localBans.add(ban(`new-${i}`, 100), at(2));
    expect(localBans.countBans(2)).toBe(600);
    expect(localBans.secondsLeft('new-0', 2)).toBe(100);
  });
});

/** A store, and clients of it. Messages arrive at once. */
class Store {
  readonly time = new VirtualTime();
  readonly bans = new SimulatedBans(
    () => this.time.now + this.clockAhead,
    (message) => {
      if (this.losesMessages) return;
      for (const listener of this.#listeners) listener(message);
    },
  );
  /** Seconds by which the store's clock was set forward. */
  clockAhead = 0;
  /** Whether calls are held: neither answered nor refused. */
  isSilent = false;
  /** Whether messages to subscribers are lost, without an end of the connection. */
  losesMessages = false;
  calls = 0;
  subscriptions = 0;
  readonly #listeners = new Set<(message: string) => void>();
  readonly #onReady: (() => void)[] = [];
  #held: (() => void)[] = [];

  constructor() {
    this.time.install();
  }

  /** Ends the silence: held calls go on. */
  endSilence(): void {
    this.isSilent = false;
    for (const resume of this.#held.splice(0)) resume();
  }

  /** Ends all subscriptions; each is there again at once. */
  endSubscriptions(): void {
    for (const onReady of this.#onReady) onReady();
  }

  client(): object {
    const noop = () => {};
    const connection = { on: noop, off: noop, connect: async () => {}, destroy: noop };
    const evaluate = async (text: string, { arguments: args }: { arguments: string[] }) => {
      this.calls += 1;
      if (this.isSilent) await new Promise<void>((resume) => this.#held.push(resume));
      return this.bans.eval(text, args);
    };
    return {
      ...connection,
      evalSha: async () => {
        throw new Error('NOSCRIPT No matching script.');
      },
      eval: evaluate,
      duplicate: () => {
        let own: ((message: string) => void) | undefined;
        return {
          ...connection,
          on: (event: string, listener: () => void) => {
            if (event === 'ready') this.#onReady.push(listener);
          },
          subscribe: async (_: string, listener: (message: string) => void) => {
            own = listener;
            this.subscriptions += 1;
            this.#listeners.add(listener);
          },
          destroy: () => own !== undefined && this.#listeners.delete(own),
        };
      },
    };
  }

  /** A process that is up. */
  async start(options: Partial<SharedBansOptions> = {}): Promise<SharedBans> {
    const bans = new SharedBans({
      client: this.client(),
      clock: () => this.time.now,
      ...options,
    });
    await this.time.run(1);
    expect(bans.getStats().state).toBe('up');
    return bans;
  }
}

describe('SharedBans', () => {
  it('makes no calls to a silent store, and later sends bans with their remaining time', async () => {
    const store = new Store();
    const bans = await store.start();
    store.isSilent = true;
    store.calls = 0;
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
    expect(store.bans.secondsLeft('p')).toBeCloseTo(1.499);
    expect(store.bans.size).toBe(51);
    await bans.close();
  });

  it('lifts a ban whose lift it has missed, at its next look', async () => {
    const store = new Store();
    const [a, b] = [await store.start(), await store.start()];
    const lifts: string[] = [];
    a.on('lift', ({ key }) => lifts.push(key));
    b.ban('p', 60);
    await store.time.run(0.1);
    expect(a.isBanned('p')).toBe(true);
    store.losesMessages = true;
    b.lift('p');
    await store.time.run(6);
    expect(a.isBanned('p')).toBe(false);
    expect(lifts).toEqual(['p']);
    await Promise.all([a.close(), b.close()]);
  });

  it('subscribes anew if the message of a change does not arrive', async () => {
    const store = new Store();
    const [a, b] = [await store.start(), await store.start()];
    a.ban('p', 60);
    await store.time.run(6);
    expect(store.subscriptions).toBe(2);
    store.losesMessages = true;
    a.ban('q', 60);
    await store.time.run(6);
    expect(b.isBanned('q')).toBe(true);
    store.losesMessages = false;
    await store.time.run(6);
    expect(store.subscriptions).toBeGreaterThan(2);
    b.ban('r', 60);
    await store.time.run(0.1);
    expect(a.isBanned('r')).toBe(true);
    await Promise.all([a.close(), b.close()]);
  });

  it('keeps and sends a ban that it finds while it reads the version or all bans', async () => {
    const store = new Store();
    const [a, b] = [await store.start(), await store.start()];
    const lifts: string[] = [];
    a.on('lift', ({ key }) => lifts.push(key));
    b.ban('first', 60);
    await store.time.run(1);
    store.losesMessages = true;
    b.ban('missed', 60);
    await store.time.run(0.01);
    store.losesMessages = false;
    store.isSilent = true;
    // The node notices that it has missed a change, and reads the version.
    b.ban('second', 60);
    await store.time.run(0.01);
    a.ban('p', 60);
    store.endSilence();
    await store.time.run(1);
    const keys = ['first', 'missed', 'second', 'p'];
    for (const one of [a, b]) expect(keys.filter((key) => !one.isBanned(key))).toEqual([]);
    expect(store.bans.secondsLeft('p')).toBeGreaterThan(0);
    expect(lifts).toEqual([]);
    await Promise.all([a.close(), b.close()]);
  });

  it('tells a store that came back with an older state what it lost, and lifts nothing', async () => {
    const store = new Store();
    const [a, b] = [await store.start(), await store.start()];
    const lifts: string[] = [];
    for (const one of [a, b]) one.on('lift', ({ key }) => lifts.push(key));
    a.ban('old', 3600);
    await store.time.run(0.1);
    const goBack = store.bans.snapshot();
    for (let n = 0; n < 20; n += 1) (n % 2 ? a : b).ban(`new-${n}`, 3600);
    await store.time.run(0.1);
    goBack();
    expect(store.bans.size).toBe(1);
    await store.time.run(7);
    expect(store.bans.size).toBe(21);
    expect([a.getStats().bans, b.getStats().bans]).toEqual([21, 21]);
    expect(lifts).toEqual([]);
    await Promise.all([a.close(), b.close()]);
  });

  it('tells a store that came back with an older state and has as many changes again', async () => {
    const store = new Store();
    const [a, b, c] = [await store.start(), await store.start(), await store.start()];
    a.ban('p', 3600);
    await store.time.run(0.1);
    const goBack = store.bans.snapshot();
    store.losesMessages = true;
    c.ban('q', 3600);
    await store.time.run(0.1);
    const changeTo = store.bans.snapshot();
    await c.close();
    goBack();
    store.losesMessages = false;
    a.lift('p');
    await store.time.run(0.1);
    // The store was started again with the state from before the lift, and c has banned q before a and b call it.
    changeTo();
    expect(store.bans.secondsLeft('p')).toBeGreaterThan(3000);
    store.endSubscriptions();
    await store.time.run(0.1);
    expect(store.bans.secondsLeft('p')).toBe(0);
    for (const one of [a, b]) expect([one.isBanned('p'), one.isBanned('q')]).toEqual([false, true]);
    await Promise.all([a.close(), b.close()]);
  });

  it('tells an emptied store each ban once, whatever the number of processes', async () => {
    const store = new Store();
    const all: SharedBans[] = [];
    for (let n = 0; n < 4; n += 1) all.push(await store.start());
    for (let n = 0; n < 1200; n += 1) all[n % 4]?.ban(`p${n}`, 3600);
    await store.time.run(1);
    const sent = () => all.reduce((sum, one) => sum + one.getStats().sent, 0);
    const before = sent();
    store.bans.flush();
    store.calls = 0;
    await store.time.run(12);
    expect(store.bans.size).toBe(1200);
    expect(sent() - before).toBe(1200);
    // Batches to send and pages to read, and looks.
    expect(store.calls).toBeLessThan(80);
    for (const one of all) expect(one.getStats()).toMatchObject({ state: 'up', bans: 1200 });
    await Promise.all(all.map((one) => one.close()));
  });

  it('does not end a newer ban by a lift that is told late', async () => {
    const store = new Store();
    const [a, b] = [await store.start(), await store.start()];
    a.ban('p', 60);
    await store.time.run(0.1);
    store.isSilent = true;
    a.lift('p');
    await store.time.run(1);
    // a's call was lost; b is told the old ban, lifts it too and finds the peer anew.
    store.endSilence();
    b.lift('p');
    b.ban('p', 3600);
    await store.time.run(8);
    for (const one of [a, b]) expect(one.banSecondsLeft('p')).toBeGreaterThan(3500);
    expect(store.bans.secondsLeft('p')).toBeGreaterThan(3500);
    await Promise.all([a.close(), b.close()]);
  });

  it('shortens a ban everywhere by a lift and a ban in one turn', async () => {
    const store = new Store();
    const [a, b] = [await store.start(), await store.start()];
    b.ban('p', 3600, 7);
    await store.time.run(1);
    a.ban('other', 60);
    a.lift('p');
    a.ban('p', 60);
    await store.time.run(1);
    for (const one of [a, b]) expect(one.banSecondsLeft('p')).toBeCloseTo(59, 0);
    expect(store.bans.secondsLeft('p')).toBeCloseTo(59, 0);
    await Promise.all([a.close(), b.close()]);
  });

  it.each([3600, -3600])(
    'ends bans by their time if the store’s clock is set by %d s',
    async (step) => {
      const store = new Store();
      const a = await store.start();
      a.ban('short', 30);
      a.ban('long', 1000);
      await store.time.run(1);
      store.clockAhead += step;
      await store.time.run(10);
      const b = await store.start();
      for (const one of [a, b]) {
        expect(one.banSecondsLeft('long')).toBeCloseTo(988, 0);
        expect(one.banSecondsLeft('short')).toBeCloseTo(18, 0);
      }
      expect(store.bans.secondsLeft('long')).toBeCloseTo(988, 0);
      await Promise.all([a.close(), b.close()]);
    },
  );

  it('lists the bans of all processes, those that end last first', async () => {
    const store = new Store();
    const one = await store.start();
    const two = await store.start();
    one.ban('p', 60);
    one.ban('q', 600);
    two.ban('r', 300);
    two.ban('over', 2);
    one.ban('lifted', 900);
    one.lift('lifted');
    await store.time.run(3);
    for (const bans of [one, two]) {
      const { count, bans: longest } = bans.getBans(2);
      expect([count, longest.map(([key]) => key)]).toEqual([3, ['q', 'r']]);
      expect(longest[0]?.[1]).toBeCloseTo(597, 1);
    }
    expect(one.getBans(0)).toEqual({ count: 3, bans: [] });
    expect(() => one.getBans(-1)).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
  });

  it('sums violations over processes', async () => {
    const store = new Store();
    const limiters: OrderbookRateLimiter[] = [];
    const all: SharedBans[] = [];
    for (let n = 0; n < 8; n += 1) {
      const bans = await store.start();
      const clock = () => store.time.now;
      const limiter = new OrderbookRateLimiter({ clock, interval: 1000 });
      bans.share(limiter);
      all.push(bans);
      limiters.push(limiter);
    }
    let refusals = 0;
    for (const limiter of limiters) limiter.check('p');
    while (!all[0]?.isBanned('p')) {
      const limiter = limiters[refusals % 8] as OrderbookRateLimiter;
      refusals += 1;
      limiter.check('p');
      await store.time.run(0.02);
    }
    const { violationBanThreshold } = limiters[0] as OrderbookRateLimiter;
    expect(refusals).toBeGreaterThanOrEqual(violationBanThreshold);
    // Each process may keep a twentieth to itself for five seconds.
    expect(refusals).toBeLessThanOrEqual(violationBanThreshold * 1.5);
    await store.time.run(1);
    for (const limiter of limiters) expect(limiter.isBanned('p')).toBe(true);
    await Promise.all(all.map((one) => one.close()));
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
    nicks.ban('mallory', 60);
    expect([bans.isBanned('mallory'), direct.isBanned('mallory')]).toEqual([true, true]);
    await store.time.run(1);
    expect(store.bans.secondsLeft('mallory')).toBeCloseTo(59);
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
    expect([isBanned(), store.bans.secondsLeft('mallory') > 0]).toEqual([[true, true, true], true]);
    expect([direct.unban('alice'), direct.unban('mallory')]).toEqual([false, true]);
    expect(isBanned()).toEqual([false, false, false]);
    expect([nicks, direct].map((each) => each.getViolationCount('mallory'))).toEqual([0, 0]);
    await store.time.run(1);
    expect(isBanned()).toEqual([false, false, false]);
    expect(store.bans.secondsLeft('mallory') > 0).toBe(false);
    await bans.close();
    // A limiter that is not shared any more ends its own bans only.
    nicks.ban('eve', 60);
    expect([nicks.unban('eve'), bans.getStats().waiting]).toEqual([true, 0]);
  });
});
