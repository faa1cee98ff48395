// Limiters of web-standard sockets that answer by promises: what waits, in which order, and what becomes of it if the peer
// leaves. Each answer comes when the test gives it.

import { RuleLimiter } from 'relay-limiter';
import { type Admission, guardWebSockets } from 'relay-limiter/websocket';
import { describe, expect, test } from 'vitest';
import { slowLimiter } from '../support/slow-limiter.js';
import { guarded, KINDS } from './fakes.js';

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe.each(KINDS)('While a limiter checks a message, a socket of %s', (_, open) => {
  test('keeps the further ones in order, and checks them one after the other', async () => {
    const limiter = slowLimiter();
    const { connect, verdicts } = guarded({ messages: { limiter } }, open);
    const fake = connect();
    fake.receive('a', 'b', 'c');
    expect([fake.received, limiter.asked]).toEqual([[], 1]);
    await limiter.answer('allow');
    expect([fake.received, limiter.asked]).toEqual([[['a']], 2]);
    await limiter.answer('delay', 5);
    await limiter.answer('allow');
    expect(fake.received).toEqual([['a'], ['c']]);
    expect(verdicts.slice(1).map(({ did, delaySeconds }) => [did, delaySeconds])).toEqual([
      ['passed', 0],
      ['dropped', 5],
      ['passed', 0],
    ]);
    fake.receive('d');
    await limiter.answer('allow');
    expect(fake.received.at(-1)).toEqual(['d']);
  });

  test('passes what classify has made of it when it is allowed', async () => {
    const limiter = slowLimiter();
    const rules = new RuleLimiter({ scopes: { connection: {} }, rules: {} });
    const classify = (data: unknown) => ({ value: `parsed ${data}` });
    const { connect } = guarded({ limiter: rules, classify, messages: { limiter } }, open);
    const fake = connect();
    fake.receive('a', 'b');
    await limiter.answer('allow');
    await limiter.answer('allow');
    expect(fake.received).toEqual([
      ['a', 'parsed a'],
      ['b', 'parsed b'],
    ]);
  });

  test('closes on a ban, and gets nothing of what waits', async () => {
    const limiter = slowLimiter();
    const { connect, guard } = guarded({ messages: { limiter } }, open);
    const fake = connect();
    fake.receive('a', 'b');
    await limiter.answer('disconnect', 5);
    expect([fake.received, fake.closes.length, limiter.asked]).toEqual([[], 1, 1]);
    fake.end();
    expect(guard.connections).toBe(0);
  });

  test('gets what the peer has sent before it left, and then the end', async () => {
    const limiter = slowLimiter();
    const options = { connections: { maxPerAddress: 1 }, messages: { limiter } };
    const { connect, refused, guard } = guarded(options, open);
    const fake = connect();
    fake.receive('a', 'b');
    fake.end();
    expect([fake.ends, guard.connections]).toEqual([0, 1]);
    expect(refused().status).toBe(429);
    await limiter.answer('allow');
    expect([fake.received, fake.ends]).toEqual([[['a']], 0]);
    await limiter.answer('delay', 1);
    expect([fake.received, fake.ends, guard.connections]).toEqual([[['a']], 1, 0]);
    expect(limiter.removed.length).toBe(1);
    expect(connect()).toBeDefined();
  });

  test('ends when it is closed for what waited when the peer left', async () => {
    const limiter = slowLimiter();
    const { connect, guard } = guarded({ messages: { limiter } }, open);
    const fake = connect();
    fake.receive('a');
    fake.end();
    await limiter.answer('disconnect', 1);
    expect([fake.received, fake.ends, guard.connections]).toEqual([[], 1, 0]);
  });

  test('lets one MiB wait, and closes the connection for more', async () => {
    const limiter = slowLimiter();
    const { connect, verdicts } = guarded({ messages: { limiter } }, open);
    const fake = connect();
    const half = 'x'.repeat(1 << 19);
    fake.receive('a', half);
    expect(fake.closes).toEqual([]);
    fake.receive(half);
    expect(fake.closes).toEqual([[1013, 'too many messages at once']]);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'backlog' });
    await limiter.answer('allow');
    expect(fake.received).toEqual([]);
  });

  test('gets everything when the guard is closed, and ignores the answer', async () => {
    const limiter = slowLimiter();
    const { connect, guard } = guarded({ messages: { limiter } }, open);
    const fake = connect();
    fake.receive('a', 'b');
    guard.close();
    expect(fake.received).toEqual([['a'], ['b']]);
    await limiter.answer('disconnect');
    fake.receive('c');
    expect([fake.received, fake.closes]).toEqual([[['a'], ['b'], ['c']], []]);
  });

  test('closes with 1011 if the limiter rejects', async () => {
    const limiter = slowLimiter();
    const { connect, errors } = guarded({ messages: { limiter } }, open);
    const fake = connect();
    fake.receive('a');
    await limiter.fail(new Error('no store'));
    expect([fake.closes[0]?.[0], fake.received, errors]).toEqual([1011, [], ['no store']]);
  });

  test('does not wait if the limiter knows the answer', () => {
    const limiter = Object.assign(slowLimiter(), {
      checkLocally: () => ['allow', 0, 1] as never,
    });
    const { connect } = guarded({ messages: { limiter }, connections: { limiter } }, open);
    const fake = connect();
    fake.receive('a');
    expect([fake.received, limiter.asked]).toEqual([[['a']], 0]);
  });
});

describe('While a limiter checks a connection, guard.upgrade', () => {
  const request = new Request('http://localhost/');
  const upgradeWith = (limiter: ReturnType<typeof slowLimiter>, maxPerAddress = 9) => {
    const verdicts: unknown[] = [];
    const guard = guardWebSockets({
      connections: { limiter, maxPerAddress },
      onVerdict: ({ did, reason }) => verdicts.push([did, reason]),
      onError: (error) => verdicts.push((error as Error).message),
    });
    let upgrades = 0;
    const upgrade = (result: unknown = 'upgraded') =>
      guard.upgrade(request, { address: '192.0.2.1' }, (_: Admission) => {
        upgrades += 1;
        return result;
      });
    return { guard, verdicts, upgrade, upgrades: () => upgrades };
  };

  test('returns a promise: of the result of the upgrade, or of the refusal', async () => {
    const limiter = slowLimiter();
    const { upgrade, upgrades, verdicts } = upgradeWith(limiter);
    const [passed, refused, failed] = [upgrade(), upgrade(), upgrade()];
    await settled();
    expect([passed, upgrades()]).toEqual([expect.any(Promise), 0]);
    await limiter.answer('allow');
    expect([await passed, upgrades()]).toEqual(['upgraded', 1]);
    await limiter.answer('delay', 7);
    const response = (await refused) as Response;
    expect([response.status, response.headers.get('retry-after'), upgrades()]).toEqual([
      429,
      '7',
      1,
    ]);
    await limiter.fail(new Error('no store'));
    expect(await failed).toMatchObject({ status: 503 });
    expect(verdicts).toEqual([['refused', 'rate'], 'no store', ['refused', 'error']]);
  });

  test('counts the connection, until it is refused or the client has left', async () => {
    const limiter = slowLimiter();
    const { upgrade } = upgradeWith(limiter, 1);
    const first = upgrade();
    expect(upgrade()).toMatchObject({ status: 429 });
    await limiter.answer('delay', 1);
    await first;
    // The server returns false if the client has left.
    const left = upgrade(false);
    await limiter.answer('allow');
    expect(await left).toBe(false);
    const last = upgrade();
    await limiter.answer('allow');
    expect(await last).toBe('upgraded');
  });

  test('upgrades without limits if the guard is closed before the answer', async () => {
    const limiter = slowLimiter();
    const { upgrade, guard, verdicts } = upgradeWith(limiter);
    const first = upgrade();
    guard.close();
    await limiter.answer('disconnect');
    expect([await first, verdicts]).toEqual(['upgraded', []]);
  });

  test('rejects with what upgrade throws, and frees the place', async () => {
    const limiter = slowLimiter();
    const guard = guardWebSockets({ connections: { limiter, maxPerAddress: 1 } });
    const thrown = new Error('thrown');
    const first = guard.upgrade(request, { address: '192.0.2.1' }, () => {
      throw thrown;
    }) as Promise<unknown>;
    const rejected = expect(first).rejects.toBe(thrown);
    await limiter.answer('allow');
    await rejected;
    const second = guard.upgrade(request, { address: '192.0.2.1' }, () => 'upgraded');
    await limiter.answer('allow');
    expect(await second).toBe('upgraded');
  });
});

test('A pong passes at once while a limiter checks a message of a socket of Bun', async () => {
  const limiter = slowLimiter();
  const guard = guardWebSockets({ messages: { limiter } });
  const pongs: string[] = [];
  const received: unknown[] = [];
  const handlers = guard.handlers({
    message: (_socket, data: unknown) => void received.push(data),
    pong: (_socket, data: unknown) => void pongs.push(String(data)),
  });
  const socket = { data: {}, close() {} } as never;
  guard.upgrade(new Request('http://localhost/'), {}, (admission) => {
    Object.assign(socket, { data: { admission } });
    handlers.open?.(socket);
  });
  handlers.message(socket, 'a');
  handlers.pong?.(socket, 'p');
  expect([pongs, received]).toEqual([['p'], []]);
  await limiter.answer('allow');
  await limiter.answer('delay', 1);
  expect([pongs, received]).toEqual([['p'], ['a']]);
});
