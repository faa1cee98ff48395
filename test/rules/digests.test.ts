// Peers that a snapshot holds under digests, restored in the other engine.

import { describe, expect, test } from 'vitest';
import type { RuleDigestColumns } from '../../dist/engine/rules.js';
import { ENGINES, otherEngine } from '../support/limiters.js';
import { PEER, restore, save, spec, used } from './saved.js';
import { RuleSubject, rounded } from './subject.js';

describe.each(ENGINES)('Peers under digests, restored on the %s engine,', (engine) => {
  const subject = (maxPeers?: number, of = spec) => new RuleSubject(engine, of, maxPeers);
  const other = (maxPeers?: number, of = spec) =>
    new RuleSubject(otherEngine(engine), of, maxPeers);

  /** A limiter with these peers under the digests of the other engine. */
  const withPending = (maxPeers?: number) => {
    const before = other();
    for (const [address, cost] of [
      ['peer', [60, 40]],
      ['second', [50]],
      ['third', [40]],
    ] as const) {
      before.check({ address }, { cost });
    }
    const limiter = subject(maxPeers).at(1008);
    before.at(1008);
    expect(restore(limiter, save(before))).toBe(Math.min(3, maxPeers ?? 3));
    return limiter;
  };

  test('count as peers from their first check on', () => {
    const limiter = withPending();
    expect(limiter.peers('address')).toBe(0);
    expect(limiter.peek(PEER, { cost: 0 }).used).toMatchObject({ messages: 52, bytes: 36 });
    expect(limiter.peers('address')).toBe(0);
    expect(limiter.check(PEER, { cost: [10] })).toBe('allowed');
    expect(limiter.peers('address')).toBe(1);
    expect(limiter.used(PEER, 'messages')).toBe(62);
    limiter.at(1010);
    const peer = limiter.open({ address: 'second' });
    expect(peer.check({ cost: [61] })).toEqual({ delay: rounded(1), rule: 'messages' });
    expect(limiter.violations('address', 'second')).toBe(1);
    expect(peer.check({ cost: [60] })).toBe('allowed');
    limiter.charge({ address: 'third' }, { cost: [1] });
    expect(limiter.used({ address: 'third' }, 'messages')).toBe(31);
    expect(limiter.peers('address')).toBe(3);
    expect(save(limiter).others.length).toBe(2);
  });

  test('keep their tokens when they are banned, and lose them with removePeer and clear', () => {
    const limiter = withPending();
    limiter.ban('address', 'peer', 1);
    limiter.at(1010);
    expect(limiter.used(PEER, 'messages')).toBe(50);
    limiter.removePeer('address', 'second');
    expect(limiter.used({ address: 'second' }, 'messages')).toBe(0);
    limiter.core.clear();
    expect(limiter.used({ address: 'third' }, 'messages')).toBe(0);
    expect(save(limiter).others).toEqual([]);
  });

  test('are saved again while they wait', () => {
    const limiter = withPending();
    limiter.at(1012);
    expect(save(limiter).others.sort()).toEqual(
      [
        [12, ...used(60, 40)],
        [12, ...used(50)],
        [12, ...used(40)],
      ].sort(),
    );
    const after = other().at(1012);
    expect(restore(after, save(limiter))).toBe(3);
    expect(after.used(PEER, 'messages')).toBe(48);
  });

  test('leave a peer that is stored as it is', () => {
    const before = other();
    before.check(PEER, { cost: [60] });
    const limiter = subject();
    limiter.check(PEER, { cost: [5] });
    restore(limiter, save(before));
    expect(limiter.used(PEER, 'messages')).toBe(5);
    expect(limiter.check(PEER, { cost: [5] })).toBe('allowed');
    expect(limiter.used(PEER, 'messages')).toBe(10);
  });

  test('are at most maxPeers, and get a record as any newcomer', () => {
    const limiter = withPending(2);
    for (const address of ['a', 'b']) limiter.ban('address', address, 100);
    const full = { full: 'address', delay: 1 };
    for (const address of ['peer', 'second', 'third']) {
      expect(limiter.check({ address }, { cost: [1] })).toEqual(full);
    }
    limiter.at(1108);
    for (const address of ['peer', 'second', 'third']) {
      expect(limiter.check({ address }, { cost: [1] })).toBe('allowed');
    }
    expect(limiter.peers('address')).toBe(2);
  });

  test('belong to own keys after the secret was adopted', () => {
    const before = other();
    before.check(PEER, { cost: [60] });
    const saved = save(before);
    const [digests] = saved.digests as [RuleDigestColumns];
    const limiter = subject();
    limiter.core.adopt(digests.secret);
    expect(restore(limiter, saved)).toBe(1);
    expect(limiter.used(PEER, 'messages')).toBe(60);
    expect(limiter.check(PEER, { cost: [20] })).toBe('allowed');
    const [again] = save(limiter).digests as [RuleDigestColumns];
    expect(again.secret).toEqual(digests.secret);
    expect(again.digests).toEqual(digests.digests);
  });
});
