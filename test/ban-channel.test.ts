// Bans on node:diagnostics_channel, on both engines.

import { type ChannelListener, subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  BAN_CHANNEL,
  type BanMessage,
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
} from 'relay-limiter';
import { afterEach, describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';

const subscribers: ChannelListener[] = [];

function listen(): BanMessage[] {
  const messages: BanMessage[] = [];
  const subscriber: ChannelListener = (message) => messages.push(message as BanMessage);
  subscribe(BAN_CHANNEL, subscriber);
  subscribers.push(subscriber);
  return messages;
}

afterEach(() => {
  for (const subscriber of subscribers.splice(0)) unsubscribe(BAN_CHANNEL, subscriber);
});

describe.each(ENGINES)('BAN_CHANNEL on the %s engine', (engine) => {
  const options = { engine, clock: manualClock(), banDuration: 60 };

  test('publishes each ban once, with its limiter, in addition to onBan', () => {
    const told: unknown[] = [];
    const onBan = (ban: object) => told.push(ban);
    const nicks = new OrderbookRateLimiter({ ...options, violationBanThreshold: 2, onBan });
    const direct = new DirectConnectionRateLimiter({ ...options, orderbookBanThreshold: 2 });
    const messages = listen();
    for (let n = 0; n < 10; n += 1) {
      nicks.check('mallory');
      direct.open('connection-1').checkOrderbook();
    }
    expect(messages).toEqual([
      { limiter: direct, key: 'connection-1', violations: 2, banDuration: 60 },
      { limiter: nicks, key: 'mallory', violations: 2, banDuration: 60 },
    ]);
    expect(messages[1]?.limiter).toBe(nicks);
    expect(told).toEqual([{ key: 'mallory', violations: 2, banDuration: 60 }]);
  });

  test('publishes nothing to a subscriber that has unsubscribed', () => {
    const messages = listen();
    unsubscribe(BAN_CHANNEL, subscribers.pop() as ChannelListener);
    new OrderbookRateLimiter({ ...options, violationBanThreshold: 0 }).check('mallory');
    expect(messages).toEqual([]);
  });
});
