// A plain Map of bucket objects: the usual hand-written limiter, and the design of the reference implementation.

import type { CheckResult, RateLimiterStats } from 'relay-limiter';

interface Bucket {
  tokens: number;
  lastRefill: number;
}

const ALLOWED: CheckResult = ['allow', 0];

export class PlainMap {
  readonly #rate: number;
  readonly #burst: number;
  readonly #buckets = new Map<string, Bucket>();
  readonly #violations = new Map<string, number>();

  constructor(rate: number, burst: number) {
    this.#rate = rate;
    this.#burst = burst;
  }

  check(key: string): CheckResult {
    const now = performance.now() / 1000;
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      bucket = { tokens: this.#burst, lastRefill: now };
      this.#buckets.set(key, bucket);
    }
    const refilled = bucket.tokens + (now - bucket.lastRefill) * this.#rate;
    bucket.tokens = Math.min(this.#burst, refilled);
    bucket.lastRefill = now;
    if (bucket.tokens >= 1) {
      bucket.tokens -= 1;
      return ALLOWED;
    }
    this.#violations.set(key, (this.#violations.get(key) ?? 0) + 1);
    return ['delay', (1 - bucket.tokens) / this.#rate];
  }

  removePeer(key: string): void {
    this.#buckets.delete(key);
    this.#violations.delete(key);
  }

  cleanupOldPeers(maxIdleSeconds: number): number {
    const now = performance.now() / 1000;
    let removed = 0;
    for (const [key, bucket] of this.#buckets) {
      if (now - bucket.lastRefill <= maxIdleSeconds) continue;
      this.removePeer(key);
      removed += 1;
    }
    return removed;
  }

  getStats(): Pick<RateLimiterStats, 'trackedPeers' | 'totalViolations' | 'topViolators'> {
    let totalViolations = 0;
    for (const count of this.#violations.values()) totalViolations += count;
    const worst = [...this.#violations].sort((a, b) => b[1] - a[1]);
    return {
      trackedPeers: this.#buckets.size,
      totalViolations,
      topViolators: worst.slice(0, 10),
    };
  }

  clear(): void {
    this.#buckets.clear();
    this.#violations.clear();
  }
}
