// A flood of one peer at several nodes.

import type { SharedRateLimiter } from 'relay-limiter/redis';
import type { Admission } from '../../../out/examples/fleet/bound.js';
import { sleep } from './store.js';

/** What was admitted of it, and how long the slowest verdict took. */
export class Flood {
  readonly admissions: Admission[] = [];
  slowest = 0;
  #isOver = false;
  #ended: Promise<unknown> = Promise.resolve();

  start(limiters: readonly SharedRateLimiter[]): void {
    this.#ended = Promise.all(limiters.map((one) => this.#send(one)));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#ended;
  }

  async #send(to: SharedRateLimiter): Promise<void> {
    while (!this.#isOver) {
      const before = performance.now();
      const [action] = await to.checkAsync('flood');
      const now = performance.now();
      this.slowest = Math.max(this.slowest, (now - before) / 1000);
      if (action === 'allow') this.admissions.push({ at: now / 1000, cost: 1 });
      await sleep(0.002);
    }
  }
}
