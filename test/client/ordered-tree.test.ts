// OrderedTree: the order of the queue of PolicyLimiter, and the costs before an item.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { amountOf } from '../../dist/client/cost.js';
import { OrderedTree } from '../../dist/client/ordered-tree.js';
import { seeded } from '../support/random.js';
import { runs } from '../support/runs.js';

interface Item {
  readonly rank: number;
  readonly cost: number | Record<string, number>;
}

/** Returns a tree, and the number of comparisons that it has made. */
function countingTree() {
  const counts = { comparisons: 0 };
  const tree = new OrderedTree<Item>((a, b) => {
    counts.comparisons += 1;
    return a.rank < b.rank;
  });
  return { tree, counts };
}

describe('OrderedTree', () => {
  it('has the order and the sums of a sorted list, whatever is added and deleted', () => {
    const cost = fc.oneof(
      fc.integer({ min: 0, max: 9 }),
      fc.record({ requests: fc.constant(1), tokens: fc.integer({ min: 0, max: 99 }) }),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(cost, fc.nat(), fc.boolean())), (steps) => {
        const { tree } = countingTree();
        let list: Item[] = [];
        for (const [index, [cost, place, deletes]] of steps.entries()) {
          const victim = list[place % Math.max(1, list.length)];
          if (deletes && victim !== undefined) {
            tree.delete(victim);
            list = list.filter((item) => item !== victim);
          } else {
            const item = { rank: (place % 1000) + index / 1000, cost };
            tree.add(item);
            list = [...list, item].sort((a, b) => a.rank - b.rank);
          }
          expect(tree.size).toBe(list.length);
          expect(tree.first).toBe(list[0]);
          for (const unit of ['requests', 'tokens']) {
            const sums = list.map((item) => amountOf(item.cost, unit));
            const sum = (count: number) => sums.slice(0, count).reduce((a, b) => a + b, 0);
            expect(amountOf(tree.total, unit)).toBe(sum(list.length));
            for (const [at, item] of list.entries()) {
              expect(amountOf(tree.costBefore(item), unit)).toBe(sum(at));
            }
          }
        }
      }),
      runs(),
    );
  });

  it.each<[order: string, rankOf: (index: number, random: () => number) => number]>([
    ['ascending', (index) => index],
    ['descending', (index) => -index],
    ['random', (_, random) => random()],
    ['that of ten priorities', (index, random) => index - 1e6 * Math.floor(10 * random())],
  ])('needs O(log n) comparisons if the order of insertion is %s', (_, rankOf) => {
    const { tree, counts } = countingTree();
    const random = seeded(7);
    const items = Array.from({ length: 10_000 }, (_, index) => {
      return { rank: rankOf(index, random), cost: 1 };
    });
    for (const item of items) {
      tree.costBefore(item);
      tree.add(item);
    }
    for (const item of items) {
      tree.costBefore(item);
      tree.delete(item);
    }
    // Four walks, each about twice as deep as log2(10,000) = 13.3.
    expect(counts.comparisons / items.length).toBeLessThan(4 * 40);
    expect(tree.total).toBe(0);
  });
});
