// Bans on node:diagnostics_channel, in processes of their own.

import { expect, test } from 'vitest';
import { run, runJson } from './support/processes.js';

test('BAN_CHANNEL makes the exception of a subscriber an uncaught exception, and check and onBan continue', () => {
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

test('BAN_CHANNEL is not needed: bans begin as usual without node:diagnostics_channel', () => {
  const { status, stderr } = run(`
    process.getBuiltinModule = undefined;
    const { OrderbookRateLimiter } = await import('relay-limiter');
    const limiter = new OrderbookRateLimiter({ engine: 'js', violationBanThreshold: 0 });
    if (limiter.check('mallory') || !limiter.isBanned('mallory')) throw new Error('no ban');
  `);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});
