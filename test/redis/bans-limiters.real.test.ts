import { DirectConnectionRateLimiter, OrderbookRateLimiter } from 'relay-limiter';
import type { SharedBan } from 'relay-limiter/redis';
import { describe, expect, it } from 'vitest';
import { codeOf, manualClock } from '../support/limiters.js';
import { bans, withServer } from './support/bans.js';
import { NO_SERVER } from './support/store.js';

describe.skipIf(NO_SERVER)('SharedBans with limiters', () => {
  withServer();

  it('makes them refuse banned peers and apply levels of violations, until a lift', async () => {
    const a = await bans('refuse');
    const b = await bans('refuse');
    const clock = manualClock();
    const orderbook = new OrderbookRateLimiter({
      ...{ interval: 1, violationWarningThreshold: 2, violationBanThreshold: 6, clock },
    });
    const direct = new DirectConnectionRateLimiter({ clock });
    b.share(orderbook);
    b.share(direct);
    const received: [string, number][] = [];
    a.on('ban', ({ key, violations }) => received.push([key, violations]));
    a.ban('p', 600);
    await expect.poll(() => orderbook.isBanned('p')).toBe(true);
    expect(direct.isBanned('p')).toBe(true);
    expect(orderbook.check('p') || orderbook.open('p').check()).toBe(false);
    expect(direct.checkMessage('p') || direct.checkOrderbook('p')).toBe(false);
    const here = new OrderbookRateLimiter({ violationWarningThreshold: 2 });
    a.share(here);
    for (let i = 0; i < 3; i += 1) here.check('q');
    await expect.poll(() => orderbook.getViolationCount('q')).toBe(2);
    // The backoff is six times the interval.
    expect(orderbook.check('q')).toBe(true);
    clock.now += 5.9;
    expect(orderbook.check('q')).toBe(false);
    clock.now += 0.2;
    expect(orderbook.check('q')).toBe(true);
    // The checks above were violations of p, which both limiters counted: a hears of the larger number.
    await expect.poll(() => received.filter(([key]) => key === 'p').at(-1)).toEqual(['p', 2]);
    expect(b.getStats().waiting).toBe(0);
    a.lift('p');
    await expect.poll(() => orderbook.isBanned('p')).toBe(false);
    expect(orderbook.check('p')).toBe(true);
    expect(direct.checkMessage('p') && direct.checkOrderbook('p')).toBe(true);
  });

  it('sends the bans and levels of violations that they find', async () => {
    const start = performance.now();
    const clock = manualClock();
    const a = await bans('limiters', { clock });
    const b = await bans('limiters');
    const received: SharedBan[] = [];
    b.on('ban', (ban) => received.push(ban));
    const orderbook = new OrderbookRateLimiter({
      ...{ violationWarningThreshold: 2, violationSevereThreshold: 4, violationBanThreshold: 6 },
      banDuration: 6000,
    });
    a.share(orderbook);
    expect(codeOf(() => a.share(orderbook))).toBe('ERR_LIMITER_OPTION');
    const peer = orderbook.open('maker');
    for (let i = 0; i < 8; i += 1) peer.check();
    expect(orderbook.isBanned('maker')).toBe(true);
    expect(a.isBanned('maker')).toBe(true);
    const direct = new DirectConnectionRateLimiter({ orderbookBanThreshold: 4, banDuration: 3000 });
    const c = await bans('limiters', { clock });
    c.share(direct);
    for (let i = 0; i < 5; i += 1) direct.checkOrderbook('taker');
    await expect.poll(() => b.isBanned('maker') && b.isBanned('taker')).toBe(true);
    // What b hears differs from the length of the ban by the time until b hears it, and by how exactly both know the
    // fleet's clock. Both are less than the time that the test has taken.
    const took = (performance.now() - start) / 1000;
    for (const [peer, banDuration, violations] of [
      ['maker', 6000, 6],
      ['taker', 3000, 4],
    ] as const) {
      const ban = received.filter(({ key }) => key === peer).at(-1);
      expect(ban?.violations).toBe(violations);
      expect(Math.abs((ban?.seconds as number) - banDuration)).toBeLessThanOrEqual(took);
    }
  });

  it('makes limiters of other processes take over and lift bans', async () => {
    const a = await bans('over');
    const b = await bans('over');
    const options = { violationWarningThreshold: 2, banDuration: 6000 };
    const here = new OrderbookRateLimiter(options);
    const there = new OrderbookRateLimiter(options);
    a.share(here);
    b.share(there);
    for (let i = 0; i < 3; i += 1) here.check('p');
    await expect.poll(() => there.getBackoffLevel('p')).toBe('MODERATE');
    a.ban('q', 600, 3);
    await expect.poll(() => there.isBanned('q')).toBe(true);
    const later = new OrderbookRateLimiter(options);
    b.share(later);
    expect(later.isBanned('q')).toBe(true);
    b.lift('q');
    expect(there.isBanned('q')).toBe(false);
    await expect.poll(() => here.isBanned('q')).toBe(false);
  });
});
