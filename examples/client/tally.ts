// Counts the requests and refusals of a client by node, at its fetch function.

import { parseRateLimitHeaders } from 'relay-limiter/headers';

export interface NodeTally {
  sent: number;
  /** Requests answered with 429. */
  refused: number;
  /** The end of the node's window by its last response, on the clock of performance.now(); undefined: unknown. */
  windowEndsAt: number | undefined;
}

export class Tally {
  readonly #nodes = new Map<string, NodeTally>();
  readonly #fetch: typeof fetch;

  constructor(inner: typeof fetch) {
    this.#fetch = inner;
  }

  node(origin: string): NodeTally {
    const found = this.#nodes.get(origin) ?? { sent: 0, refused: 0, windowEndsAt: undefined };
    this.#nodes.set(origin, found);
    return found;
  }

  readonly fetch: typeof fetch = async (input, init) => {
    const node = this.node(new URL(String(input)).origin);
    node.sent += 1;
    const response = await this.#fetch(input, init);
    if (response.status === 429) node.refused += 1;
    const { limits, retryAfterSeconds } = parseRateLimitHeaders(response.headers);
    const resets = limits.map((limit) => limit.resetSeconds).filter((reset) => reset !== null);
    const seconds = retryAfterSeconds ?? (resets.length > 0 ? Math.min(...resets) : undefined);
    if (seconds !== undefined) node.windowEndsAt = performance.now() + seconds * 1000;
    return response;
  };
}
