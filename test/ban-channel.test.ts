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
import { run, runJson } from './support/processes.js';

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

describe.each(ENGINES)('%s', (engine) => {
  const options = { engine, clock: manualClock(), banDuration: 60 };

  test('each ban is published once, with its limiter, beside onBan', () => {
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

  test('who no longer listens hears nothing', () => {
    const messages = listen();
    unsubscribe(BAN_CHANNEL, subscribers.pop() as ChannelListener);
    new OrderbookRateLimiter({ ...options, violationBanThreshold: 0 }).check('mallory');
    expect(messages).toEqual([]);
  });
});

test('what a subscriber throws is an uncaught exception, and check and onBan go on', () => {
  const outcome = runJson(`
    import { subscribe } from 'node:diagnostics_channel';
    import { BAN_CHANNEL, OrderbookRateLimiter } from 'relay-limiter';
    const seen = [];
    process.on('uncaughtException', (error) => seen.push(error.message));
    process.on('exit', () => console.log(JSON.stringify(seen)));
    subscribe(BAN_CHANNEL, () => { throw new Error('the log is full'); });
    const onBan = () => seen.push('onBan');
    const limiter = new OrderbookRateLimiter({ engine: 'js', violationBanThreshold: 0, onBan });
    seen.push(limiter.check('mallory'));
  `);
  expect(outcome).toEqual(['onBan', false, 'the log is full']);
});

test('where there is no such module bans begin as ever', () => {
  const { status, stderr } = run(`
    process.getBuiltinModule = undefined;
    const { OrderbookRateLimiter } = await import('relay-limiter');
    const limiter = new OrderbookRateLimiter({ engine: 'js', violationBanThreshold: 0 });
    if (limiter.check('mallory') || !limiter.isBanned('mallory')) throw new Error('no ban');
  `);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});
