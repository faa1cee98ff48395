// A flood of one peer at several nodes.

import type { SharedRateLimiter } from 'relay-limiter/redis';
import type { Admission } from '../../../out/examples/fleet/bound.js';
import { sleep, until } from './store.js';

const seconds = () => performance.now() / 1000;

/** What was admitted of it, and for how long nodes took the store for gone. */
export class Flood {
  readonly admissions: Admission[] = [];
  readonly #nodes: readonly SharedRateLimiter[];
  /** When the last message was made that a node has admitted. */
  readonly #lastOf = new Map<SharedRateLimiter, number>();
  /** Since when nodes take the store for gone. */
  readonly #downAt = new Map<SharedRateLimiter, number>();
  #alone = 0;
  #isOver = false;
  readonly #ended: Promise<unknown>;

  constructor(nodes: readonly SharedRateLimiter[]) {
    this.#nodes = nodes;
    for (const node of nodes) this.#measure(node);
    this.#ended = Promise.all(nodes.map((node) => this.#send(node)));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#ended;
  }

  /** Until each of some nodes has admitted a message that came after this call. */
  async isAdmitted(nodes = this.#nodes): Promise<void> {
    const start = seconds();
    await until(() => nodes.every((node) => (this.#lastOf.get(node) ?? 0) > start));
  }

  /** Mean of the seconds for which nodes took the store for gone, until now: what `share` may add to the bound. */
  aloneSeconds(): number {
    const still = this.#nodes
      .map((node) => this.#downAt.get(node))
      .filter((at) => at !== undefined);
    const sum = still.reduce((total, at) => total + seconds() - at, this.#alone);
    return sum / this.#nodes.length;
  }

  #measure(node: SharedRateLimiter): void {
    node.on('state', ({ state }) => {
      const downAt = this.#downAt.get(node);
      if (state === 'down') this.#downAt.set(node, seconds());
      else if (downAt !== undefined) {
        this.#alone += seconds() - downAt;
        this.#downAt.delete(node);
      }
    });
  }

  async #send(to: SharedRateLimiter): Promise<void> {
    while (!this.#isOver) {
      const from = seconds();
      const [action] = await to.checkAsync('flood');
      if (action === 'allow') {
        this.admissions.push({ from, at: seconds(), cost: 1 });
        this.#lastOf.set(to, from);
      }
      await sleep(0.002);
    }
  }
}
