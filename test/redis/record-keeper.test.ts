// Whose lease records make room for those of new peers.

import { beforeEach, describe, expect, it } from 'vitest';
import { selectEngine } from '../../lib/engine/select.js';
import { LeaseRecords, type RecordIndex } from '../../lib/redis/limit/lease-records.js';
import { readSharedOptions } from '../../lib/redis/limit/options.js';
import { RecordKeeper } from '../../lib/redis/limit/record-keeper.js';
import { ENGINES } from '../support/limiters.js';

const MAX_PEERS = 4;
const LEASE_SECONDS = 20;

describe.each(ENGINES)('RecordKeeper, with the %s engine,', (engine) => {
  let records: LeaseRecords;
  let keeper: RecordKeeper;
  let isDown: boolean;
  const requested = new Set<string>();
  const released: string[] = [];

  beforeEach(() => {
    records = new LeaseRecords(selectEngine(engine).leaseTable());
    isDown = false;
    requested.clear();
    released.length = 0;
    const options = { mode: 'local', rateLimit: 10, burstLimit: 100, leaseSeconds: LEASE_SECONDS };
    keeper = new RecordKeeper(readSharedOptions({ ...options, maxPeers: MAX_PEERS }), records, {
      hasRequest: (key) => requested.has(key),
      isDown: () => isDown,
      release: (key) => {
        released.push(key);
        records.delete(key);
      },
    });
  });

  /** Gives a peer a record with a lease. */
  const lease = (key: string, now = 0): RecordIndex | undefined => {
    const index = keeper.findOrInsert(key, now);
    if (index !== undefined) records.grant(index, 8, false, now + LEASE_SECONDS, 1);
    return index;
  };
  const peers = () => Array.from({ length: records.size }, (_, n) => records.keyAt(n)).sort();

  it('releases a peer once there are maxPeers', () => {
    for (let n = 0; n < 10; n += 1) {
      expect(lease(`p${n}`)).toBeDefined();
      expect(records.size).toBe(Math.min(n + 1, MAX_PEERS));
    }
    expect(keeper.evictions).toBe(6);
    expect(new Set(released).size).toBe(6);
    expect([...peers(), ...released].sort()).toEqual(Array.from({ length: 10 }, (_, n) => `p${n}`));
  });

  it('finds a known peer, and releases nobody for it', () => {
    for (const key of ['a', 'b', 'c', 'd', 'a', 'd']) lease(key);
    expect(keeper.evictions).toBe(0);
    expect(peers()).toEqual(['a', 'b', 'c', 'd']);
  });

  it('keeps a peer with a request in flight, and refuses a new one if all have one', () => {
    for (const key of ['a', 'b', 'c', 'd']) lease(key);
    for (const key of ['a', 'b', 'd']) requested.add(key);
    expect(lease('e')).toBeDefined();
    expect(released).toEqual(['c']);
    requested.add('e');
    expect(lease('f')).toBeUndefined();
    expect(peers()).toEqual(['a', 'b', 'd', 'e']);
  });

  it('deletes a record that says nothing any more, without a call of the store', () => {
    lease('a');
    lease('b');
    lease('c', LEASE_SECONDS);
    expect(peers()).toEqual(['c']);
    expect([released, keeper.evictions]).toEqual([[], 0]);
  });

  it('reports the violations of a peer that has left, once the store answers', () => {
    const index = lease('a') as RecordIndex;
    records.addViolation(index);
    isDown = true;
    lease('b', 3 * LEASE_SECONDS);
    expect(released).toEqual([]);
    isDown = false;
    lease('c', 3 * LEASE_SECONDS);
    expect(released).toEqual(['a']);
    expect(keeper.evictions).toBe(0);
  });
});
