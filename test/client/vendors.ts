// Strict mocks of the APIs that presets are for, on a virtual clock. A mock refuses every request that its vendor would
// refuse, and counts the refusals.

import { vi } from 'vitest';

export interface Call {
  readonly method: string;
  readonly path: string;
  readonly body: Record<string, unknown>;
}

export interface Mock {
  readonly fetch: typeof fetch;
  /** The calls, and those of them that were refused. */
  readonly calls: Call[];
  readonly refused: Call[];
}

/** The time from a request to its answer, half of it on the way to the server. */
const LATENCY_SECONDS = 0.05;

/** Returns the seconds since 1970 of the virtual clock. */
export const now = (): number => Date.now() / 1000;

/** Returns a mock whose answers are those of `answer`, with the server's `Date`. */
export function mockOf(answer: (call: Call, refuse: () => void) => Response): Mock {
  const calls: Call[] = [];
  const refused: Call[] = [];
  const half = () => new Promise((resolve) => setTimeout(resolve, (LATENCY_SECONDS * 1000) / 2));
  return {
    calls,
    refused,
    async fetch(input, init) {
      await half();
      const { method, url } = new Request(input, { ...init, body: null });
      const { pathname: path } = new URL(url);
      const body = typeof init?.body === 'string' ? JSON.parse(init.body) : {};
      const call = { method, path, body };
      calls.push(call);
      const response = answer(call, () => refused.push(call));
      response.headers.set('Date', new Date().toUTCString());
      await half();
      return response;
    },
  };
}

/** A bucket that is full at first and refilled continuously. */
export class Bucket {
  readonly capacity: number;
  readonly perSecond: number;
  #left: number;
  #at = now();

  constructor(capacity: number, perSecond: number) {
    this.capacity = capacity;
    this.perSecond = perSecond;
    this.#left = capacity;
  }

  get left(): number {
    this.#left = Math.min(this.capacity, this.#left + (now() - this.#at) * this.perSecond);
    this.#at = now();
    return this.#left;
  }

  take(amount: number): boolean {
    // Sums of fractions have rounding errors.
    if (this.left < amount - 1e-6) return false;
    this.#left -= amount;
    return true;
  }
}

/** A window that begins anew at multiples of its length, or with its first request. */
export class Window {
  readonly quota: number;
  readonly seconds: number;
  used = 0;
  #end = -Infinity;
  readonly #isAligned: boolean;

  constructor(quota: number, seconds: number, { aligned = true } = {}) {
    this.quota = quota;
    this.seconds = seconds;
    this.#isAligned = aligned;
  }

  get resetSeconds(): number {
    return this.#end - now();
  }

  get left(): number {
    this.#advance();
    return this.quota - this.used;
  }

  take(amount: number): boolean {
    if (this.left < amount) return false;
    this.used += amount;
    return true;
  }

  #advance(): void {
    if (now() < this.#end) return;
    this.used = 0;
    const start = this.#isAligned ? Math.floor(now() / this.seconds) * this.seconds : now();
    this.#end = start + this.seconds;
  }
}

/** Returns a JSON response. */
export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers });
}

/** Starts all calls, lets the time pass, and returns their statuses and the seconds until the last was answered. */
export async function runAll(
  calls: readonly (() => Promise<Response>)[],
  seconds: number,
): Promise<{ statuses: number[]; lastAt: number }> {
  const start = now();
  const statuses: number[] = [];
  let lastAt = 0;
  for (const call of calls) {
    void call().then(
      ({ status }) => {
        statuses.push(status);
        lastAt = now() - start;
      },
      () => statuses.push(0),
    );
  }
  await vi.advanceTimersByTimeAsync(seconds * 1000);
  return { statuses, lastAt };
}
