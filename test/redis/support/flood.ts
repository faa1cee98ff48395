// Flood: endless checks of one peer at several nodes.

import type { SharedRateLimiter } from 'relay-limiter/redis';
import type { Admission } from '../../../out/examples/fleet/bound.js';
import { sleep, until } from './store.js';

const seconds = () => performance.now() / 1000;

/** Records what was admitted, and for how long each node's store was down. */
export class Flood {
  readonly admissions: Admission[] = [];
  readonly #nodes: readonly SharedRateLimiter[];
  /** When the last admitted message of each node was sent. */
  readonly #lastAdmitted = new Map<SharedRateLimiter, number>();
  /** Since when the store has been down, by node. */
  readonly #downSince = new Map<SharedRateLimiter, number>();
  #downSeconds = 0;
  #isStopped = false;
  readonly #ended: Promise<unknown>;

  constructor(nodes: readonly SharedRateLimiter[]) {
    this.#nodes = nodes;
    for (const node of nodes) this.#watchState(node);
    this.#ended = Promise.all(nodes.map((node) => this.#send(node)));
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#ended;
  }

  /** Resolves once each of the nodes has admitted a message that was sent after this call. */
  async untilAdmitted(nodes = this.#nodes): Promise<void> {
    const start = seconds();
    await until(() => nodes.every((node) => (this.#lastAdmitted.get(node) ?? 0) > start));
  }

  /** The seconds for which the store was down so far, as a mean over nodes: what `share` may add to the bound. */
  downSeconds(): number {
    const openSince = this.#nodes
      .map((node) => this.#downSince.get(node))
      .filter((at) => at !== undefined);
    const sum = openSince.reduce((total, at) => total + seconds() - at, this.#downSeconds);
    return sum / this.#nodes.length;
  }

  #watchState(node: SharedRateLimiter): void {
    node.on('state', ({ state }) => {
      const downSince = this.#downSince.get(node);
      if (state === 'down') this.#downSince.set(node, seconds());
      else if (downSince !== undefined) {
        this.#downSeconds += seconds() - downSince;
        this.#downSince.delete(node);
      }
    });
  }

  async #send(to: SharedRateLimiter): Promise<void> {
    while (!this.#isStopped) {
      const from = seconds();
      const [action] = await to.checkAsync('flood');
      if (action === 'allow') {
        this.admissions.push({ from, at: seconds(), cost: 1 });
        this.#lastAdmitted.set(to, from);
      }
      await sleep(0.002);
    }
  }
}
