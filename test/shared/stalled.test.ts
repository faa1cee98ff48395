// What goes on while a part of a shared table is stalled: its checks are refused, and everything else that needs it
// throws. On limiters whose engine behaves so, without a file.

import {
  type Ban,
  DirectConnectionRateLimiter,
  type LimiterError,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { rateLimit } from 'relay-limiter/http';
import { describe, expect, test, vi } from 'vitest';
import { BAN_BEGINS, REFUSED, STALLED_SECONDS } from '../../dist/engine/engine.js';
import { forget } from '../../dist/limiters/stalled.js';
import { banSecondsLeft, checkAny, isBanned, openPeer } from '../../dist/limiters/verdict.js';
import { ask } from '../http/support.js';
import { codeOf } from '../support/limiters.js';
import { guardedVirtually } from '../ws/virtual.js';

const CLASSES = { RateLimiter, OrderbookRateLimiter, DirectConnectionRateLimiter };
type Limiter = InstanceType<(typeof CLASSES)[keyof typeof CLASSES]>;

const READS = ['violations', 'tokens', 'refilledTokens', 'isBanned', 'banSecondsLeft'];
const CHECKS = ['check', 'checkPeer', 'checkMessage', 'checkOrderbook', 'checkPeerOrderbook'];

/** From now on, as if a process had been stopped. Checks have this answer. */
function stall(limiter: Limiter, answer: number = REFUSED): void {
  const { core } = limiter as unknown as { core: Record<string, unknown> };
  for (const name of [...READS, 'removePeer', 'statistics']) {
    if (!(name in core)) continue;
    vi.spyOn(core as Record<string, () => void>, name).mockImplementation(() => {
      const message = 'process 7 keeps a part of the shared file locked';
      throw Object.assign(new Error(message), { code: 'ERR_LIMITER_SHARED' });
    });
  }
  for (const name of CHECKS) {
    if (!(name in core)) continue;
    vi.spyOn(core as Record<string, () => unknown>, name).mockReturnValue(answer);
  }
}

const DELAYED = ['delay', STALLED_SECONDS];

describe('A stalled part of a shared table', () => {
  test.each(['OrderbookRateLimiter', 'DirectConnectionRateLimiter'] as const)(
    'delays the peers of a %s, also opened ones, and bans nobody',
    (name) => {
      const limiter = new CLASSES[name]({});
      const peer = openPeer(limiter, 'alice');
      stall(limiter);
      expect(checkAny(limiter, 'alice')).toEqual(DELAYED);
      expect(peer.check()).toEqual(DELAYED);
      expect(isBanned(limiter, 'alice')).toBe(false);
      expect(banSecondsLeft(limiter, 'alice')).toBe(0);
      expect(codeOf(() => limiter.isBanned('alice'))).toBe('ERR_LIMITER_SHARED');
    },
  );

  test('delays the peers of a RateLimiter, and those that it was about to disconnect', () => {
    const limiter = new RateLimiter({ disconnectThreshold: 0 });
    stall(limiter, STALLED_SECONDS);
    expect(checkAny(limiter, 'alice')).toEqual(DELAYED);
    stall(limiter, -1);
    expect(checkAny(limiter, 'alice')).toEqual(DELAYED);
  });

  test('does not keep a ban from being reported that has just begun', () => {
    const bans: Ban[] = [];
    const onBan = (ban: Ban) => void bans.push(ban);
    const limiter = new OrderbookRateLimiter({ banDuration: 60, onBan });
    stall(limiter, BAN_BEGINS);
    expect(limiter.check('mallory')).toBe(false);
    expect(bans).toEqual([{ key: 'mallory', violations: 0, banDuration: 60 }]);
  });

  test('throws for all that is no consequence of a check, and passes on other errors', () => {
    const limiter = new RateLimiter();
    stall(limiter);
    for (const call of [
      () => limiter.peek('alice'),
      () => limiter.removePeer('alice'),
      () => limiter.getStats(),
    ]) {
      expect(codeOf(call)).toBe('ERR_LIMITER_SHARED');
    }
    expect(() => forget(limiter, 'alice')).not.toThrow();
    const failure = new Error('another one');
    const other = {
      removePeer() {
        throw failure;
      },
    };
    expect(() => forget(other, 'alice')).toThrow(failure);
  });

  test('ends no connection of a guard, whose messages are refused, and hinders no close', () => {
    const limiter = new RateLimiter();
    const offenders = new OrderbookRateLimiter();
    const errors: LimiterError[] = [];
    const { connect, verdicts } = guardedVirtually({
      messages: { limiter },
      expulsions: offenders,
      onError: (error) => errors.push(error as LimiterError),
    });
    stall(limiter, STALLED_SECONDS);
    stall(offenders);
    const socket = connect();
    socket.receive('a');
    socket.terminate();
    expect(errors).toEqual([]);
    expect(verdicts.map(({ kind, did }) => [kind, did])).toEqual([
      ['connection', 'passed'],
      ['message', 'dropped'],
    ]);
  });

  test('lets a server answer 429, without a state of the quota', async () => {
    const limiter = new RateLimiter();
    const middleware = rateLimit({ limiter });
    expect((await ask(middleware)).fields).toHaveProperty('ratelimit');
    stall(limiter, STALLED_SECONDS);
    const { status, error, fields } = await ask(middleware);
    expect({ status, error }).toEqual({ status: 429, error: undefined });
    expect(fields).toMatchObject({ 'retry-after': '1' });
    expect(fields).not.toHaveProperty('ratelimit');
  });
});
