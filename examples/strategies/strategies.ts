// Strategies to send under several policies: the algorithms of PolicyLimiter, and two typical hand-written ones.

import { PolicyLimiter, type PolicyLimiterOptions } from 'relay-limiter/client';
import type { Policy } from './policies.js';

export interface Sender {
  /** Seconds until the next request may go; 0: now. */
  delay(): number;
  /** Sends the request. */
  send(): void;
}

export interface Strategy {
  readonly name: string;
  /** `now`: seconds. */
  start(policies: readonly Policy[], now: () => number): Sender;
}

export const STRATEGIES: readonly Strategy[] = [
  { name: 'mirror of fixed windows, greedy', start: greedyMirror },
  limiter("'fixed': as aiohivebot", { algorithm: 'fixed' }),
  limiter("'sliding': exact, greedy", { algorithm: 'sliding' }),
  limiter("'bucket', burstShare 0: even", { burstShare: 0 }),
  limiter("'bucket' (default: 0.1)", {}),
  limiter("'bucket', burstShare 0.01", { burstShare: 0.01 }),
  { name: "'sliding', paced, burst of 20", start: pacedSliding },
];

function limiter(name: string, options: Omit<PolicyLimiterOptions, 'policies'>): Strategy {
  return {
    name,
    start: (policies, clock) => sender(new PolicyLimiter({ policies, clock, ...options })),
  };
}

function sender(limiter: PolicyLimiter): Sender {
  return {
    delay: () => limiter.delaySeconds(),
    send: () => {
      if (!limiter.tryAcquire()) throw new Error('a request was sent that may not go');
    },
  };
}

interface Window {
  readonly quota: number;
  readonly seconds: number;
  left: number;
  end: number;
}

/** A client's own fixed windows, which begin with its first request: it does not know the server's windows. */
class Mirror {
  readonly windows: readonly Window[];

  constructor(policies: readonly Policy[]) {
    this.windows = policies.map(({ quota, windowSeconds }) => {
      return { quota, seconds: windowSeconds, left: quota, end: -Infinity };
    });
  }

  count(now: number): void {
    for (const window of this.windows) {
      if (now >= window.end)
        Object.assign(window, { left: window.quota, end: now + window.seconds });
      window.left -= 1;
    }
  }
}

function greedyMirror(policies: readonly Policy[], now: () => number): Sender {
  const mirror = new Mirror(policies);
  return {
    delay: () => {
      const ends = mirror.windows.map(({ left, end }) => (left === 0 ? end : -Infinity));
      return Math.max(0, ...ends.map((end) => end - now()));
    },
    send: () => mirror.count(now()),
  };
}

/** Spreads the remaining quota of each window evenly until the window ends, with a burst of up to 20 requests. */
function pacedSliding(policies: readonly Policy[], now: () => number): Sender {
  const burst = 20;
  const mirror = new Mirror(policies);
  const exact = sender(new PolicyLimiter({ policies, algorithm: 'sliding', clock: now }));
  let tokens = burst;
  let last = now();
  const rate = () =>
    Math.min(
      ...mirror.windows.map(({ quota, seconds, left, end }) =>
        now() < end ? left / (end - now()) : quota / seconds,
      ),
    );
  const refilled = () => Math.min(burst, tokens + (now() - last) * rate());
  return {
    delay: () => {
      const missing = 1 - refilled();
      return Math.max(exact.delay(), missing > 1e-9 ? missing / Math.max(rate(), 0.1) : 0);
    },
    send: () => {
      tokens = refilled() - 1;
      last = now();
      mirror.count(now());
      exact.send();
    },
  };
}
