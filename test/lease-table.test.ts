// The engines' tables of leases: one contract, and random operations on both, of which the answers are the
// same. The seed is printed where they differ; RELAY_LIMITER_SEED=n repeats a run.

import { afterEach, describe, expect, it, test, vi } from 'vitest';
import { type LeaseTable, REFUSED } from '../lib/engine/engine.js';
import { selectEngine } from '../lib/engine/select.js';
import { LeaseRecords } from '../lib/redis/limit/lease-records.js';
import { codeOf, ENGINES, ODD_KEYS, TESTS_NATIVE } from './support/limiters.js';
import { type Random, seeded } from './support/random.js';
import { printSeedOnFailure, SEED } from './support/seed.js';

const OPERATIONS = 100_000;
const TAKEN = undefined;

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each(ENGINES)('the table of leases of the %s engine', (engine) => {
  const made = () => selectEngine(engine).leaseTable();

  it('gives out what it was told, and no more', () => {
    const table = made();
    table.set('a', 2.5, 100);
    expect(table.spend('a', 1, 99)).toBe(TAKEN);
    expect(table.spend('a', 2, 99)).toBe(REFUSED);
    expect(table.tokens('a')).toBe(1.5);
    expect(table.spend('a', 1.5, 99)).toBe(TAKEN);
    expect(table.spend('a', Number.MIN_VALUE, 99)).toBe(REFUSED);
    expect(table.spend('a', 0, 99)).toBe(TAKEN);
    expect(table.tokens('a')).toBe(0);
  });

  it('gives out nothing from the very end on, and keeps what is left', () => {
    const table = made();
    table.set('a', 2, 100);
    expect(table.spend('a', 1, 100 - 2 ** -40)).toBe(TAKEN);
    expect(table.spend('a', 1, 100)).toBe(REFUSED);
    expect(table.spend('a', 0, 100)).toBe(REFUSED);
    expect(table.tokens('a')).toBe(1);
    table.set('a', 0, -Infinity);
    expect(table.spend('a', 0, -1e300)).toBe(REFUSED);
  });

  it('knows of a peer what it was told last', () => {
    const table = made();
    table.set('a', 5, 100);
    table.set('a', 1, 50);
    expect(table.spend('a', 1, 60)).toBe(REFUSED);
    expect(table.spend('a', 1, 49)).toBe(TAKEN);
    table.set('a', 3, 200);
    table.delete('a');
    expect(table.spend('a', 0, 49)).toBe(REFUSED);
    expect(table.tokens('a')).toBe(0);
    table.delete('a');
  });

  it('knows nothing of others: asking creates nobody', () => {
    const table = made();
    expect(table.spend('a', 0, 0)).toBe(REFUSED);
    expect(table.tokens('a')).toBe(0);
    expect(table.total(-Infinity)).toBe(0);
  });

  it('adds up what is not over', () => {
    const table = made();
    table.set('a', 1, 10);
    table.set('b', 2, 20);
    table.set('c', 4, 30);
    table.set('d', 8, -Infinity);
    expect([9, 10, 20, 30].map((now) => table.total(now))).toEqual([7, 6, 4, 0]);
  });

  it('tells every key from every other', () => {
    const table = made();
    for (const [n, key] of ODD_KEYS.entries()) table.set(key, n, 1);
    expect(ODD_KEYS.map((key) => table.tokens(key))).toEqual(ODD_KEYS.map((_, n) => n));
    for (const key of ODD_KEYS) table.delete(key);
    expect(ODD_KEYS.map((key) => table.tokens(key))).toEqual(ODD_KEYS.map(() => 0));
  });

  it('reads its own clock where no time is given', () => {
    const table = made();
    table.set('a', 10, table.now() + 3600);
    expect(table.spend('a', 1)).toBe(TAKEN);
    table.set('a', 10, table.now());
    expect(table.spend('a', 1)).toBe(REFUSED);
  });

  it('is no other', () => {
    const tables = Array.from({ length: 20 }, made);
    for (const [n, table] of tables.entries()) table.set('a', n, 1);
    expect(tables.map((table) => table.spend('a', 10, 0))).toEqual(
      tables.map((_, n) => (n < 10 ? REFUSED : TAKEN)),
    );
  });
});

/** Costs and grants are eighths: their sums are exact in any order. */
function operate(random: Random, key: string, now: number): (table: LeaseTable) => unknown {
  const eighths = random.below(80) / 8;
  const until = random.pick([now, now + random() * 10, now + random() * 1000, -Infinity, Infinity]);
  const dice = random();
  if (dice < 0.6) return (table) => table.spend(key, eighths, now);
  if (dice < 0.85) return (table) => table.set(key, eighths * 10, until);
  if (dice < 0.92) return (table) => table.tokens(key);
  if (dice < 0.9995) return (table) => table.delete(key);
  return (table) => table.total(now);
}

test.runIf(TESTS_NATIVE).each([3, 500, 20_000])(
  'both engines answer the same, of %d peers',
  (peers) => {
    printSeedOnFailure();
    const random = seeded(SEED + peers);
    const [native, js] = [selectEngine('native').leaseTable(), selectEngine('js').leaseTable()];
    const odd = ODD_KEYS.filter(({ length }) => length <= 1000);
    let now = 1e6;
    for (let n = 0; n < OPERATIONS; n += 1) {
      now += random() < 0.01 ? random() * 20 : random() < 0.001 ? -50 : 0;
      const key = random() < 0.1 ? random.pick(odd) : `peer-${random.below(peers)}`;
      const act = operate(random, key, now);
      const [ours, theirs] = [act(native), act(js)];
      if (ours !== theirs) {
        expect({ seed: SEED, n, key, act, ours }).toEqual({
          seed: SEED,
          n,
          key,
          act,
          ours: theirs,
        });
      }
    }
  },
);

describe('leases without memory', () => {
  it('forget the peer whole where the TypeScript engine finds none, and find room afterwards', () => {
    const leases = new LeaseRecords(selectEngine('js').leaseTable());
    leases.insert('known');
    const { set } = Map.prototype;
    for (const entry of [0, 1]) {
      let left = entry;
      vi.spyOn(Map.prototype, 'set').mockImplementation(function (
        this: typeof Map.prototype,
        ...given
      ) {
        if (left-- === 0) throw new RangeError('Map maximum size exceeded');
        return set.apply(this, given);
      });
      const said = codeOf(() => leases.insert('newcomer'));
      vi.restoreAllMocks();
      expect(said).toBe('ERR_LIMITER_MEMORY');
      expect(leases.size).toBe(1);
      expect(leases.find('newcomer')).toBeUndefined();
    }
    leases.grant(leases.insert('newcomer'), 8, false, 10, 1);
    expect(leases.total(9)).toBe(8);
  });
});

describe.each(ENGINES)('leases in the %s engine', (engine) => {
  it('are spent to the last quarter, which is told of once', () => {
    const leases = new LeaseRecords(selectEngine(engine).leaseTable());
    const place = leases.insert('a');
    leases.grant(place, 8, false, 10, 1);
    for (let n = 0; n < 6; n += 1) expect(leases.spend('a', 1, 0)).toBe(true);
    expect(leases.spend('a', 1, 0)).toBe(false);
    expect(leases.spendReserve(place, 3, 0)).toBe(false);
    expect(leases.spendReserve(place, 1, 10)).toBe(false);
    expect(leases.left(place, 0)).toBe(2);
    expect(leases.spendReserve(place, 1, 0)).toBe(true);
    expect(leases.spendReserve(place, 1, 0)).toBe(false);
    expect(leases.spend('a', 1, 0)).toBe(true);
    expect(leases.spend('a', 1, 0)).toBe(false);
  });

  it('hold no more than they say, whoever comes and goes', () => {
    const leases = new LeaseRecords(selectEngine(engine).leaseTable());
    const random = seeded(7);
    const held = new Map<string, number>();
    for (let n = 0; n < 20_000; n += 1) {
      const key = `peer-${random.below(300)}`;
      const place = leases.find(key) ?? leases.insert(key);
      const dice = random();
      if (dice < 0.1) {
        leases.delete(key);
        held.delete(key);
      } else if (dice < 0.3) {
        leases.grant(place, 16, dice < 0.2, 10, n);
        held.set(key, 16 + (dice < 0.2 ? (held.get(key) ?? 0) : 0));
      } else {
        const cost = random.below(6);
        const isSpent = leases.spend(key, cost, 0) || leases.spendReserve(place, cost, 0);
        expect(isSpent).toBe(held.has(key) && (held.get(key) as number) >= cost);
        if (isSpent) held.set(key, (held.get(key) as number) - cost);
      }
    }
    expect(leases.total(0)).toBe([...held.values()].reduce((sum, left) => sum + left, 0));
    expect(leases.total(10)).toBe(0);
  });
});
