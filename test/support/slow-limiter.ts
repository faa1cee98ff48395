// A limiter whose checks end when the test answers them, the oldest first.

import type { CheckResult } from 'relay-limiter';

interface Question {
  resolve(answer: readonly [CheckResult[0], number, number | null]): void;
  reject(error: unknown): void;
}

export function slowLimiter() {
  const questions: Question[] = [];
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const limiter = {
    rateLimit: 1,
    burstLimit: 1000,
    /** The number of checks so far. */
    asked: 0,
    costs: [] as (number | undefined)[],
    removed: [] as string[],
    checkWithTokens(_: string, cost?: number) {
      limiter.asked += 1;
      limiter.costs.push(cost);
      return new Promise<readonly [CheckResult[0], number, number | null]>((resolve, reject) => {
        questions.push({ resolve, reject });
      });
    },
    removePeer(key: string) {
      limiter.removed.push(key);
    },
    /** Answers the oldest check, and waits until the guard has acted on it. */
    async answer(action: `${CheckResult[0]}`, delaySeconds = 0) {
      questions.shift()?.resolve([action as CheckResult[0], delaySeconds, null]);
      await settled();
    },
    async fail(error: unknown) {
      questions.shift()?.reject(error);
      await settled();
    },
  };
  return limiter;
}
