// A RuleLimiter in the guard of WebSockets, with real clients.

import { RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import { afterEach, describe, expect, test } from 'vitest';
import type { RawData } from 'ws';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';
import { until } from '../support/sockets.js';
import { caughtUp, client, closing, connected, guarded, refusal, stopAll } from './support.js';

afterEach(stopAll);

const SCOPES = { connection: {}, address: { kind: 'address' }, account: {} } as const;

function limiterOf(limits: Partial<RuleLimiterOptions>): RuleLimiter {
  return new RuleLimiter({ scopes: SCOPES, rules: {}, clock: manualClock(), ...limits });
}

describe.each(ENGINES)('A WebSocket server with a RuleLimiter on the %s engine', (engine) => {
  test('answers 403 to denied addresses and 429 to banned ones, before the upgrade', async () => {
    const limiter = limiterOf({ engine, deny: { address: ['127.0.0.2'] } });
    limiter.ban('address', '127.0.0.3', 90);
    const { port, guard } = await guarded({ limiter });
    const from = (localAddress: string) => refusal(client(port, { localAddress }));
    expect(await from('127.0.0.2')).toEqual({ status: 403, retryAfter: undefined });
    expect(await from('127.0.0.3')).toEqual({ status: 429, retryAfter: '90' });
    await connected(port);
    expect(guard.connections).toBe(1);
  });

  test('limits clients behind a trusted proxy by their own addresses', async () => {
    const rules = {
      connects: { scope: 'address', action: 'connect', quota: 1, windowSeconds: 100 },
    };
    const limiter = limiterOf({ engine, rules });
    const { port } = await guarded({ limiter, trustedProxies: 'loopback' });
    const by = (address: string) => ({ headers: { 'X-Forwarded-For': address } });
    await connected(port, by('203.0.113.1'));
    expect(await refusal(client(port, by('203.0.113.1')))).toEqual({
      status: 429,
      retryAfter: '101',
    });
    await connected(port, by('203.0.113.2'));
  });

  test('parses each message once, logs in and closes for a ban of the account', async () => {
    const limiter = limiterOf({
      engine,
      rules: {
        own: { scope: 'connection', rateLimit: 1, burstLimit: 100 },
        notes: { scope: 'account', action: 'note', quota: 2, windowSeconds: 100 },
      },
      plans: { paid: { notes: { quota: 4 } } },
      bans: { account: { violations: 2, withinSeconds: 100, seconds: 60 } },
    });
    let parsed = 0;
    const { server, guard, port, received, verdicts } = await guarded({
      limiter,
      classify: (data, isBinary) => {
        if (isBinary) return undefined;
        parsed += 1;
        const value = JSON.parse(String(data));
        return { action: value.action, value };
      },
    });
    const values: unknown[] = [];
    const codes: unknown[] = [];
    server.on('connection', (socket) => {
      socket.on('message', (_: RawData, __: boolean, value?: { action: string }) => {
        values.push(value);
        if (value?.action !== 'login') return;
        const rulePeer = guard.peerOf(socket);
        for (const keys of [{ connection: 'mine' }, { account: 'mallory', address: '192.0.2.1' }]) {
          codes.push(codeOf(() => rulePeer?.assign(keys)));
        }
        rulePeer?.assign({ account: 'alice' }, 'paid');
      });
    });
    const peer = await connected(port);
    for (const action of ['login', 'note', 'note', 'note', 'note', 'note']) {
      peer.send(JSON.stringify({ action }));
    }
    peer.send(Buffer.from([1, 2, 3]));
    await caughtUp(peer);
    expect(values).toEqual([{ action: 'login' }, ...Array(4).fill({ action: 'note' }), undefined]);
    expect([parsed, received.length]).toEqual([6, 6]);
    expect(codes).toEqual(['ERR_LIMITER_KEY', 'ERR_LIMITER_KEY']);
    peer.send(JSON.stringify({ action: 'note' }));
    expect((await closing(peer)).code).toBe(1008);
    await until(() => guard.connections === 0);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', key: 'alice', rule: 'notes' });
    expect(limiter.banSecondsLeft('account', 'alice')).toBe(60);
    expect(limiter.getStats().scopes['connection']?.peers).toBe(0);
  });

  test('keeps nothing of many connections that have closed', async () => {
    const rules = { own: { scope: 'connection', rateLimit: 0.001, burstLimit: 2 } };
    const limiter = limiterOf({ engine, rules, bans: {} });
    const { port, guard, received } = await guarded({
      limiter,
      onDelay: 'pause',
      maxPauseSeconds: 9e5,
    });
    for (let round = 0; round < 3; round += 1) {
      const peers = await Promise.all(Array.from({ length: 20 }, () => connected(port)));
      for (const peer of peers) for (let n = 0; n < 3; n += 1) peer.send('a');
      await until(() => received.length === (round + 1) * 40);
      for (const peer of peers) peer.terminate();
      await until(() => guard.connections === 0);
    }
    expect(limiter.getStats().scopes['connection']).toMatchObject({ peers: 0, totalViolations: 0 });
  });
});
