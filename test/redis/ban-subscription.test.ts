// Which channel BanSubscription subscribes to while sharded subscriptions fail, and afterwards.

import { afterEach, describe, expect, it, vi } from 'vitest';
import { BanSubscription } from '../../lib/redis/bans/ban-subscription.js';
import { StoredBans } from '../../lib/redis/bans/stored-bans.js';
import type { StoreClient } from '../../lib/redis/store/client.js';
import type { Subscriber } from '../../lib/redis/store/subscriber.js';
import { VirtualTime } from './support/virtual-time.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

type Kind = 'sharded' | 'plain';

/** A cluster whose subscriptions of either kind work or fail, and a BanSubscription that is opened as BanSync does. */
class Cluster {
  readonly time = new VirtualTime();
  /** Kinds whose subscriptions fail. */
  failing: Kind[] = [];
  /** Kinds whose subscriptions neither work nor fail until they are closed. Then they succeed or fail. */
  hanging: Kind[] = [];
  closeSucceeds = false;
  /** Whether published messages are lost. */
  losesMessages = false;
  /** Subscriptions that were tried. */
  tries = { sharded: 0, plain: 0 };
  readonly events: string[] = [];
  readonly stored: StoredBans;
  readonly subscription: BanSubscription;
  readonly #open: { kind: Kind; receive: (text: string) => void; end: () => void }[] = [];

  constructor() {
    this.time.install();
    const client: Partial<StoreClient> = {
      isCluster: true,
      eval: async (_text, _keys, [, message]) => {
        const receivers = this.#open.filter(({ kind }) => kind === 'sharded');
        if (!this.losesMessages) for (const { receive } of receivers) receive(message as string);
      },
      shardSubscriber: () => this.#subscriber('sharded'),
      duplicate: () => this.#subscriber('plain'),
    };
    this.stored = new StoredBans(client as StoreClient, 'test', 1, () => {});
    this.subscription = new BanSubscription(client as StoreClient, this.stored, {
      onMessage: () => {},
      onReady: () => this.events.push(`ready with ${this.kinds.join(' and ')}`),
      onEnd: (reason) => this.events.push(`end: ${(reason as Error).message}`),
    });
  }

  /** The subscriptions that are open. */
  get kinds(): Kind[] {
    return this.#open.map(({ kind }) => kind);
  }

  /** Lets time pass. Opens the subscription every quarter of a second, as long as it is not open. */
  async run(seconds: number): Promise<void> {
    for (let passed = 0; passed < seconds; passed += 0.25) {
      void this.subscription.open().catch(() => {});
      await this.time.run(0.25);
    }
  }

  /** Ends a connection of this kind. */
  end(kind: Kind): void {
    this.#open.find((one) => one.kind === kind)?.end();
  }

  #subscriber(kind: Kind): Subscriber {
    let close = () => {};
    return {
      subscribe: async (_channel, receive, onReady, onEnd) => {
        this.tries[kind] += 1;
        if (this.failing.includes(kind)) throw new Error('refused');
        if (this.hanging.includes(kind)) {
          return new Promise((resolve, reject) => {
            close = () => (this.closeSucceeds ? resolve() : reject(new Error('closed')));
          });
        }
        const one = { kind, receive, end: () => {} };
        close = () => {
          const at = this.#open.indexOf(one);
          if (at >= 0) this.#open.splice(at, 1);
        };
        one.end = () => {
          close();
          onEnd(new Error('connection lost'));
        };
        this.#open.push(one);
        onReady();
      },
      close: () => close(),
    };
  }
}

describe('BanSubscription', () => {
  it('is on the sharded channel only, if that works', async () => {
    const cluster = new Cluster();
    await cluster.run(100);
    expect(cluster.kinds).toEqual(['sharded']);
    expect(cluster.tries).toEqual({ sharded: 1, plain: 0 });
    expect(cluster.stored.needsBroadcast).toBe(false);
    expect(cluster.events).toEqual(['ready with sharded']);
  });

  it.each([10, 100_000])(
    'is back on the sharded channel within a minute after %i seconds without a server',
    async (seconds) => {
      const cluster = new Cluster();
      await cluster.run(1);
      cluster.failing = ['sharded', 'plain'];
      cluster.end('sharded');
      await cluster.run(seconds > 10 ? 1000 : seconds);
      await cluster.time.run(seconds);
      expect(cluster.kinds).toEqual([]);
      cluster.failing = [];
      await cluster.run(60);
      expect(cluster.kinds).toEqual(['sharded']);
      expect(cluster.stored.needsBroadcast).toBe(false);
    },
  );

  it('is on the plain channel after three failures, and rarely tries the sharded one', async () => {
    const cluster = new Cluster();
    cluster.failing = ['sharded'];
    await cluster.run(3);
    expect(cluster.kinds).toEqual(['plain']);
    expect(cluster.stored.needsBroadcast).toBe(true);
    expect(cluster.subscription.state).toBe('established');
    await cluster.run(3600);
    // 3, then after 1, 2, 4, ... 32 seconds, and every minute.
    expect(cluster.tries.sharded).toBeGreaterThan(3 + 6 + 50);
    expect(cluster.tries.sharded).toBeLessThan(3 + 6 + 62);
    expect(cluster.tries.plain).toBe(1);
    expect(cluster.kinds).toEqual(['plain']);
  });

  it('keeps the plain channel until the sharded one works, so that no message is missed', async () => {
    const cluster = new Cluster();
    cluster.losesMessages = true;
    await cluster.run(8);
    expect(cluster.kinds).toContain('plain');
    cluster.losesMessages = false;
    await cluster.run(60);
    expect(cluster.kinds).toEqual(['sharded']);
    expect(cluster.stored.needsBroadcast).toBe(false);
    expect(cluster.events).toEqual(['ready with plain', 'ready with sharded']);
  });

  it('tries again at once if the connection ends before its own message is back', async () => {
    const cluster = new Cluster();
    cluster.losesMessages = true;
    await cluster.run(0.25);
    cluster.losesMessages = false;
    cluster.end('sharded');
    await cluster.run(0.5);
    expect(cluster.kinds).toEqual(['sharded']);
    expect(cluster.subscription.state).toBe('established');
    expect(cluster.tries.plain).toBe(0);
  });

  it.each([true, false])(
    'serves by a sharded subscription that succeeds while the plain one is renewed, whose end succeeds: %s',
    async (closeSucceeds) => {
      const cluster = new Cluster();
      cluster.failing = ['sharded'];
      await cluster.run(3);
      cluster.failing = [];
      cluster.hanging = ['plain'];
      cluster.closeSucceeds = closeSucceeds;
      const renewed = cluster.subscription.renew();
      await cluster.time.run(60);
      await renewed;
      expect(cluster.kinds).toEqual(['sharded']);
      expect(cluster.subscription.state).toBe('established');
      // Three that failed, one beside the plain subscription that failed, and the one that succeeded.
      expect(cluster.tries.sharded).toBe(5);
    },
  );

  it('is on the sharded channel again even if it can never subscribe to the plain one', async () => {
    const cluster = new Cluster();
    cluster.failing = ['sharded', 'plain'];
    await cluster.run(3);
    cluster.failing = ['plain'];
    await cluster.run(60);
    expect(cluster.kinds).toEqual(['sharded']);
    expect(cluster.stored.needsBroadcast).toBe(false);
  });

  it('takes no error of an earlier subscription for one of the present', async () => {
    const cluster = new Cluster();
    cluster.failing = ['sharded'];
    await cluster.run(3);
    cluster.hanging = ['plain'];
    const renewed = cluster.subscription.renew();
    cluster.hanging = ['plain', 'sharded'];
    const again = cluster.subscription.renew();
    await renewed;
    expect(cluster.subscription.state).toBe('pending');
    cluster.subscription.close();
    await again.catch(() => {});
  });

  it('closes all its connections, and opens no other', async () => {
    const cluster = new Cluster();
    cluster.failing = ['sharded'];
    await cluster.run(3);
    cluster.failing = [];
    cluster.losesMessages = true;
    await cluster.run(2);
    expect(cluster.kinds).toEqual(['plain', 'sharded']);
    cluster.subscription.close();
    expect(cluster.kinds).toEqual([]);
    await cluster.run(200);
    expect(cluster.kinds).toEqual([]);
  });
});
