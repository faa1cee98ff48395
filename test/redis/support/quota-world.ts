// QuotaWorld: processes with a SharedPolicyLimiter and a simulated store, in virtual time.

import { SharedPolicyLimiter, type SharedPolicyLimiterOptions } from '../../../lib/redis/index.js';
import { SimulatedQuotaStore } from './simulated-quota-store.js';
import { VirtualTime } from './virtual-time.js';

/** A process: its limiter, its network, and when it sent a request. */
export class QuotaProcess {
  readonly limiter: SharedPolicyLimiter;
  readonly sentAt: number[] = [];
  /** Whether the store refuses its calls. */
  isCut = false;
  /** Whether its calls are executed and their replies are lost. */
  losesReplies = false;
  calls = 0;
  readonly #world: QuotaWorld;

  constructor(world: QuotaWorld, options: Partial<SharedPolicyLimiterOptions>) {
    this.#world = world;
    const call = (method: 'eval' | 'evalSha') => {
      return async (
        text: string,
        { keys, arguments: args }: { keys: string[]; arguments: string[] },
      ) => {
        if (this.isCut || world.isAway) throw new Error('Socket closed unexpectedly');
        if (args.length > 2) this.calls += 1;
        const reply = world.store[method](text, keys, args);
        if (this.losesReplies && args.length > 2) throw new Error('Socket closed unexpectedly');
        return reply;
      };
    };
    const nothing = () => {};
    const client = { eval: call('eval'), evalSha: call('evalSha'), connect: nothing };
    this.limiter = new SharedPolicyLimiter({
      client: { ...client, on: nothing, off: nothing },
      name: 'api',
      policies: [{ quota: 10, windowSeconds: 10 }],
      algorithm: 'sliding',
      leaseSeconds: 2,
      deadlineSeconds: 0.1,
      onStoreFailure: 'closed',
      clock: () => world.time.now,
      random: () => 0.5,
      ...options,
    });
  }

  /** Makes so many requests, which are sent when the limits allow it. */
  request(count = 1, cost = 1): void {
    for (let index = 0; index < count; index += 1) {
      const sent = (lease: { release(): void }) => {
        this.sentAt.push(this.#world.time.now);
        lease.release();
      };
      this.limiter.acquire({ cost }).then(sent, () => {});
    }
  }

  /** The number of requests sent so far. */
  get sent(): number {
    return this.sentAt.length;
  }
}

export class QuotaWorld {
  readonly time = new VirtualTime();
  readonly store: SimulatedQuotaStore;
  /** Whether the store refuses all calls. */
  isAway = false;

  constructor() {
    this.time.install();
    this.store = new SimulatedQuotaStore(() => this.time.now + 1.7e9);
  }

  start(options: Partial<SharedPolicyLimiterOptions> = {}): QuotaProcess {
    return new QuotaProcess(this, options);
  }

  run(seconds: number): Promise<void> {
    return this.time.run(seconds);
  }
}
