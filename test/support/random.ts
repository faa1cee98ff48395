// Random numbers that a seed repeats: mulberry32.

export interface Random {
  /** At least 0, below 1. */
  (): number;
  /** A whole number from 0 to n - 1. */
  below(n: number): number;
  pick<T>(values: readonly T[]): T;
}

export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n: number) => Math.floor(next() * n);
  return Object.assign(next, {
    below,
    pick: <T>(values: readonly T[]) => values[below(values.length)] as T,
  });
}
