// The guard of WebSockets of Bun and of the web standard, on fakes: connections, messages, verdicts, and what user code
// and clients may do wrong.

import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
} from 'relay-limiter';
import { type Admission, guardWebSockets, type SocketGuardOptions } from 'relay-limiter/websocket';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { utf8Length } from '../../dist/websocket/message.js';
import { codeOf, manualClock } from '../support/limiters.js';
import { bun, guarded, KINDS, standard } from './fakes.js';

const clock = manualClock();
const engine = 'js';
const few = (burstLimit: number, fields: object = {}) =>
  new RateLimiter({ rateLimit: 0.1, burstLimit, engine, clock, ...fields });

/** Rules of so many tokens an hour. */
const rules = (fields: object) =>
  new RuleLimiter({
    scopes: { connection: {}, address: { kind: 'address' }, account: {} },
    engine,
    clock,
    rules: {},
    ...fields,
  });
const hourly = (scope: string, quota: number, fields: object = {}) => ({
  scope,
  quota,
  windowSeconds: 3600,
  ...fields,
});

afterEach(() => void vi.useRealTimers());

describe.each(KINDS)('A guarded socket of %s', (_, open) => {
  test('gets the messages of its burst and of its refill only', () => {
    const { connect, verdicts } = guarded({ messages: { limiter: few(2) } }, open);
    const [a, b] = [connect(), connect()];
    a.receive('1', '2', '3');
    b.receive('4');
    expect(a.received).toEqual([['1'], ['2']]);
    expect(b.received).toEqual([['4']]);
    expect(verdicts.map(({ kind, did, data }) => [kind, did, data])).toEqual([
      ['connection', 'passed', undefined],
      ['connection', 'passed', undefined],
      ['message', 'passed', '1'],
      ['message', 'passed', '2'],
      ['message', 'dropped', '3'],
      ['message', 'passed', '4'],
    ]);
    expect(verdicts[4]).toMatchObject({ reason: 'rate', address: '192.0.2.1', socket: a.socket });
    clock.now += 10;
    a.receive('5', '6');
    expect(a.received.at(-1)).toEqual(['5']);
    expect(a.closes).toEqual([]);
  });

  test('closes at once with onDelay close, and gets nothing more', () => {
    const offenders = new OrderbookRateLimiter({
      engine,
      clock,
      violationBanThreshold: 1,
      interval: 1e6,
    });
    const messages = { limiter: few(1) };
    const { connect, refused, verdicts } = guarded(
      { messages, onDelay: 'close', expulsions: offenders },
      open,
    );
    const socket = connect();
    socket.receive('1', '2', '3');
    expect(socket.received).toEqual([['1']]);
    expect(socket.closes).toEqual([[1013, 'rate limit exceeded, try again later']]);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'rate', delaySeconds: 10 });
    expect(verdicts).toHaveLength(3);
    for (let n = 0; n < 2; n += 1) connect().receive('1', '2');
    // Each close was an offence of the address; this limiter forgives the first.
    expect(refused().status).toBe(429);
  });

  test('closes on a ban with 1008', () => {
    const limiter = few(1, { disconnectThreshold: 2 });
    const { connect } = guarded({ messages: { limiter } }, open);
    const socket = connect();
    socket.receive('1', '2', '3', '4');
    expect(socket.received).toEqual([['1']]);
    expect(socket.closes).toEqual([[1008, 'rate limit exceeded']]);
  });

  test('drops a message that costs more than the burst, or closes with onDelay close', () => {
    const limiter = few(10);
    const messages = { limiter, cost: 'bytes' } as const;
    const dropping = guarded({ messages }, open).connect();
    dropping.receive('x'.repeat(11), 'x'.repeat(10));
    expect(dropping.received).toEqual([['x'.repeat(10)]]);
    const closing = guarded({ messages, onDelay: 'close' }, open).connect();
    closing.receive('x'.repeat(11));
    expect(closing.closes).toEqual([[1008, 'message above the rate limit']]);
  });

  test('costs its bytes, whatever their type', () => {
    const limiter = few(100);
    const { connect, guard } = guarded({ messages: { limiter, cost: 'bytes' } }, open);
    const socket = connect();
    socket.receive(
      'aé€😀',
      new ArrayBuffer(20),
      new Uint8Array(30),
      new Blob(['x'.repeat(10)]),
      '',
    );
    expect(socket.received).toHaveLength(5);
    socket.receive('x'.repeat(30));
    expect(socket.received).toHaveLength(5);
    socket.receive('x'.repeat(29));
    expect(socket.received).toHaveLength(6);
    expect(guard.connections).toBe(1);
  });

  test('gets what classify made of its messages', () => {
    const limiter = rules({
      rules: {
        events: hourly('account', 2, { action: 'event' }),
        requests: hourly('connection', 1, { action: 'request' }),
      },
      plans: { paid: { requests: { quota: 2 } } },
    });
    const classify = vi.fn((data: unknown) => {
      const [action, id] = String(data).split(' ');
      return { action: action as string, keys: { account: 'ann' }, value: { id } };
    });
    const { connect, guard } = guarded({ limiter, classify }, open);
    const [a, b] = [connect(), connect()];
    a.receive('event 1', 'request 2', 'request 3', 'other 4');
    b.receive('event 5', 'event 6');
    expect(a.received).toEqual([
      ['event 1', { id: '1' }],
      ['request 2', { id: '2' }],
      ['other 4', { id: '4' }],
    ]);
    expect(b.received).toEqual([['event 5', { id: '5' }]]);
    guard.peerOf(a.socket)?.assign({}, 'paid');
    a.receive('request 7', 'request 8');
    expect(a.received.slice(3)).toEqual([['request 7', { id: '7' }]]);
    expect(classify).toHaveBeenCalledWith('event 1', false, a.socket);
  });

  test('closes on a ban by a RuleLimiter, and the address is refused for the rest of it', async () => {
    const limiter = rules({
      rules: { all: hourly('address', 1, { action: 'message' }) },
      bans: { address: { violations: 1, withinSeconds: 60, seconds: 500 } },
    });
    const { connect, refused, verdicts } = guarded({ limiter }, open);
    const socket = connect();
    socket.receive('1', '2', '3');
    expect(socket.received).toEqual([['1']]);
    expect(socket.closes).toEqual([[1008, 'rate limit exceeded']]);
    expect(verdicts.at(-1)).toMatchObject({ rule: 'all', scope: 'address', reason: 'disconnect' });
    const response = refused();
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '500']);
    expect(connect({ address: '192.0.2.2' })).toBeDefined();
  });

  test('closes once its address is denied', () => {
    const limiter = rules({ deny: { address: [] } });
    const { connect } = guarded({ limiter }, open);
    const socket = connect();
    socket.receive('1');
    limiter.update({ deny: { address: ['192.0.2.0/24'] } });
    socket.receive('2');
    expect(socket.received).toEqual([['1']]);
    expect(socket.closes).toEqual([[1008, 'policy violation']]);
  });

  test('reports a warning with which its message passes', () => {
    const limiter = rules({ rules: { all: hourly('connection', 2, { warnBelow: 0.6 }) } });
    const { connect, verdicts } = guarded({ limiter }, open);
    connect().receive('1');
    expect(verdicts.at(-1)).toMatchObject({ did: 'passed', warning: 'all', data: '1' });
  });

  test('is closed by expel, with the words of the user, once', () => {
    const { guard, connect, verdicts } = guarded({ messages: { limiter: few(5) } }, open);
    const socket = connect();
    expect(guard.expel(socket.socket, 'é'.repeat(100))).toBe(true);
    expect(socket.closes).toEqual([[1008, 'é'.repeat(61)]]);
    expect(guard.expel(socket.socket)).toBe(false);
    socket.receive('1');
    expect(socket.received).toEqual([]);
    expect(verdicts).toHaveLength(1);
  });

  test('gets nothing after its own handler has expelled it', () => {
    const { guard, connect } = guarded({ messages: { limiter: few(5) } }, open);
    const socket = connect(undefined, {}, () => guard.expel(socket.socket));
    socket.receive('1', '2');
    expect(socket.received).toEqual([['1']]);
  });

  test('is forgotten when it closes', () => {
    const limiter = few(1);
    const { guard, connect } = guarded({ messages: { limiter } }, open);
    const socket = connect();
    socket.receive('1');
    expect([guard.connections, limiter.getStats().trackedPeers]).toEqual([1, 1]);
    socket.end();
    expect([guard.connections, limiter.getStats().trackedPeers]).toEqual([0, 0]);
    expect(guard.expel(socket.socket)).toBe(false);
  });

  test('closes with 1011 if a cost, classify or a limiter throws, and gets nothing', () => {
    const fail = () => {
      throw new Error('broken');
    };
    const nonsense = [
      5,
      'text',
      [],
      { cost: -1 },
      { unknown: 1 },
      { keys: 5 },
      Promise.resolve({}),
    ];
    const cases: SocketGuardOptions[] = [
      { messages: { limiter: few(5), cost: fail } },
      { messages: { limiter: few(5, { clock: fail }) } },
      { limiter: rules({}), classify: fail },
      ...nonsense.map((result) => ({ limiter: rules({}), classify: (() => result) as never })),
    ];
    for (const options of cases) {
      const { connect, errors, verdicts } = guarded(options, open);
      const socket = connect();
      socket.receive('1', '2');
      expect(socket.received).toEqual([]);
      expect(socket.closes).toEqual([[1011, 'internal error']]);
      expect(errors).toHaveLength(1);
      expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'error' });
    }
  });

  test('stays guarded if onVerdict throws, and onError gets that', () => {
    const onVerdict = () => {
      throw new Error('broken');
    };
    const { connect, errors } = guarded({ messages: { limiter: few(1) }, onVerdict }, open);
    const socket = connect();
    socket.receive('1', '2');
    expect(socket.received).toEqual([['1']]);
    expect(errors).toEqual(['broken', 'broken', 'broken']);
  });

  test('is counted with its messages', () => {
    const limiter = few(2, { disconnectThreshold: 2 });
    const { guard, connect, refused } = guarded(
      { messages: { limiter }, connections: { maxPerServer: 2 } },
      open,
    );
    const socket = connect();
    connect().receive('1');
    refused();
    expect(guard.getStats().connections).toMatchObject({ open: 2, accepted: 2 });
    socket.receive('1', '2', '3', '4', '5');
    socket.end();
    expect(guard.getStats()).toMatchObject({
      connections: { open: 1, refused: { concurrency: 1 }, closed: { disconnect: 1 } },
      messages: { passed: 3, dropped: { rate: 1 } },
    });
  });

  test('gets everything once the guard is closed', () => {
    const { guard, connect, verdicts } = guarded({ messages: { limiter: few(1) } }, open);
    const socket = connect();
    socket.receive('1', '2');
    guard.close();
    socket.receive('3', '4');
    expect(socket.received).toEqual([['1'], ['3'], ['4']]);
    const later = connect();
    later.receive('5', '6');
    expect(later.received).toEqual([['5'], ['6']]);
    expect([guard.connections, verdicts.length]).toEqual([0, 3]);
  });
});

describe.each(KINDS)('The connection of a socket of %s', (_, open) => {
  test('is refused before the upgrade, with the time to wait', async () => {
    const { connect, refused, verdicts } = guarded({ connections: { limiter: few(1) } }, open);
    connect();
    const response = refused();
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '10']);
    expect(await response.text()).toBe('Too Many Requests');
    expect(verdicts.at(-1)).toMatchObject({ kind: 'connection', did: 'refused', reason: 'rate' });
    expect(connect({ address: '192.0.2.2' })).toBeDefined();
  });

  test('is refused with 403 and no time on a deny list', () => {
    const limiter = rules({ deny: { address: ['192.0.2.0/24'] } });
    const { connect, refused } = guarded({ limiter }, open);
    const response = refused();
    expect([response.status, response.headers.get('retry-after')]).toEqual([403, null]);
    expect(connect({ address: '198.51.100.1' })).toBeDefined();
  });

  test('is refused while its address is banned', () => {
    const limiter = new DirectConnectionRateLimiter({ engine, clock });
    const { connect, refused } = guarded({ messages: { limiter, key: 'address' } }, open);
    limiter.ban('192.0.2.1', 77);
    expect(refused().headers.get('retry-after')).toBe('77');
    expect(connect({ address: '192.0.2.2' })).toBeDefined();
  });

  test('counts for maxPerAddress until it closes', () => {
    const { connect, refused } = guarded({ connections: { maxPerAddress: 2 } }, open);
    const sockets = [connect(), connect()];
    expect(refused().status).toBe(429);
    sockets[0]?.end();
    sockets[0]?.end();
    connect();
    expect(refused().status).toBe(429);
  });

  test('is that of the client behind a trusted proxy', () => {
    const options = { connections: { maxPerAddress: 1 }, trustedProxies: ['192.0.2.1'] };
    const { connect, refused } = guarded(options, open);
    const behind = (chain: string) => ({ 'x-forwarded-for': chain });
    expect(connect(undefined, behind('6.6.6.6, 203.0.113.1'))).toBeDefined();
    expect(refused(undefined, behind('7.7.7.7, 203.0.113.1')).status).toBe(429);
    expect(connect(undefined, behind('203.0.113.2'))).toBeDefined();
  });

  test('has the keys of the option keys, which gets the request and the info', () => {
    const limiter = rules({ rules: { connects: hourly('account', 1, { action: 'connect' }) } });
    const keys = vi.fn((request: Request) => ({
      account: request.headers.get('user') ?? undefined,
    }));
    const { connect, refused, guard } = guarded({ limiter, keys }, open);
    const info = { address: '192.0.2.1', user: 'ann' };
    const socket = connect(info, { user: 'ann' });
    expect(guard.peerOf(socket.socket)?.keys).toMatchObject({
      account: 'ann',
      address: '192.0.2.1',
    });
    expect(refused(info, { user: 'ann' }).status).toBe(429);
    expect(connect(info, { user: 'bob' })).toBeDefined();
    expect(keys.mock.calls[0]?.slice(1)).toEqual([info]);
  });

  test('without an address shares no limit by address', () => {
    const { connect } = guarded({ connections: { maxPerAddress: 1 } }, open);
    expect([connect({}), connect({}), connect({ address: 'localhost' })]).not.toContain(undefined);
  });

  test('is answered 503 if keys or a limiter throws or keys returns nonsense', () => {
    const fail = () => {
      throw new Error('broken');
    };
    const cases: SocketGuardOptions[] = [
      { limiter: rules({}), keys: fail },
      { limiter: rules({}), keys: (() => 5) as never },
      { limiter: rules({}), keys: (async () => ({})) as never },
      { limiter: rules({}), keys: () => ({ address: '192.0.2.9' }) },
      { connections: { limiter: few(1, { clock: fail }) } },
      { connections: { maxPerAddress: 1 }, trustedProxies: fail },
    ];
    for (const options of cases) {
      const { refused, errors, verdicts } = guarded(options, open);
      expect(refused(undefined, { 'x-forwarded-for': '203.0.113.1' }).status).toBe(503);
      expect(errors).toHaveLength(1);
      expect(verdicts).toMatchObject([{ did: 'refused', reason: 'error' }]);
    }
  });

  test('is closed with 1011 if the key of a rule throws', () => {
    const key = () => {
      throw new Error('broken');
    };
    const { connect, errors, guard } = guarded({ messages: { limiter: few(1), key } }, open);
    const socket = connect();
    socket.receive('1');
    expect([socket.closes, socket.received]).toEqual([[[1011, 'internal error']], []]);
    expect([errors, guard.connections]).toEqual([['broken'], 0]);
  });
});

describe('guard.upgrade', () => {
  const request = new Request('http://localhost/');
  const info = { address: '192.0.2.1' };

  test('frees the place of a connection whose upgrade fails', async () => {
    const guard = guardWebSockets({ connections: { maxPerAddress: 1 } });
    const thrown = new Error('broken');
    const fail = () => {
      throw thrown;
    };
    const answer = new Response('no', { status: 400 });
    expect(() => guard.upgrade(request, info, fail)).toThrow(thrown);
    await expect(guard.upgrade(request, info, async () => fail())).rejects.toBe(thrown);
    expect(guard.upgrade(request, info, () => false)).toBe(false);
    expect(guard.upgrade(request, info, () => answer)).toBe(answer);
    expect(await guard.upgrade(request, info, async () => answer)).toBe(answer);
    expect(guard.upgrade(request, info, () => undefined)).toBeUndefined();
    expect(guard.upgrade(request, info, () => undefined)).toMatchObject({ status: 429 });
  });

  test('frees the place of a connection without a socket after ten seconds', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { guard, connect, refused } = guarded({ connections: { maxPerAddress: 1 } }, bun());
    const never = new Promise(() => {});
    for (const result of [undefined, never]) {
      guard.upgrade(request, info, () => result);
      vi.advanceTimersByTime(9999);
      expect(refused().status).toBe(429);
      vi.advanceTimersByTime(1);
    }
    expect(connect()).toBeDefined();
    vi.advanceTimersByTime(60_000);
    expect(refused().status).toBe(429);
  });

  test('keeps a place whose socket is guarded, even if upgrade throws later', () => {
    const { guard, connect, refused } = guarded({ connections: { maxPerAddress: 1 } }, standard());
    const socket = connect();
    expect(refused().status).toBe(429);
    socket.end();
    const opened = standard()(guard, false);
    const fail = () =>
      guard.upgrade(request, info, (admission) => {
        opened.upgrade(admission);
        throw new Error('late');
      });
    expect(fail).toThrow('late');
    expect(refused().status).toBe(429);
    opened.fake()?.end();
    expect(connect()).toBeDefined();
  });

  test('throws for arguments of other types', () => {
    const guard = guardWebSockets({ connections: { maxPerAddress: 1 } });
    const upgrade = (...of: unknown[]) =>
      codeOf(() => guard.upgrade(...(of as [never, never, never])));
    expect(upgrade({}, info, () => true)).toBe('ERR_LIMITER_OPTION');
    expect(upgrade(request, info, undefined)).toBe('ERR_LIMITER_OPTION');
    const socket = codeOf(() =>
      guard.upgrade(request, info, (admission) => admission.guard({} as never)),
    );
    expect(socket).toBe('ERR_LIMITER_OPTION');
    expect(guard.upgrade(request, undefined, () => 'done')).toBe('done');
  });
});

describe.each(KINDS)('A second or late socket of %s', (_, open) => {
  const request = new Request('http://localhost/');
  const info = { address: '192.0.2.1' };

  test('is closed, and takes and frees no place', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const options = { connections: { maxPerAddress: 1 } };
    const { guard, refused, errors, verdicts } = guarded(options, open);
    const [first, second, late, failed] = Array.from({ length: 4 }, () => open(guard, false));
    guard.upgrade(request, info, (admission) => {
      first?.upgrade(admission);
      second?.upgrade(admission);
    });
    second?.fake()?.receive('1');
    second?.fake()?.end();
    expect([refused().status, guard.connections]).toEqual([429, 1]);
    first?.fake()?.receive('2');
    first?.fake()?.end();

    let admission: Admission | undefined;
    guard.upgrade(request, info, (given) => {
      admission = given;
    });
    vi.advanceTimersByTime(10_000);
    late?.upgrade(admission as Admission);
    guard.upgrade(request, info, (given) => {
      admission = given;
      return false;
    });
    failed?.upgrade(admission as Admission);
    for (const closed of [second, late, failed]) {
      closed?.fake()?.receive('3');
      expect(closed?.fake()?.closes).toEqual([[1011, 'internal error']]);
      expect(closed?.fake()?.received).toEqual([]);
    }
    expect(first?.fake()?.received).toEqual([['2']]);
    expect(errors).toEqual(Array(3).fill('ERR_LIMITER_OPTION'));
    expect(verdicts.filter(({ did }) => did === 'closed')).toHaveLength(3);
    expect(guard.connections).toBe(0);
  });
});

describe('A socket of the web standard', () => {
  test('that is closed already does not count', () => {
    const open = standard(false, 3);
    const { connect, guard } = guarded({ connections: { maxPerAddress: 1 } }, open);
    expect([connect(), connect()]).not.toContain(undefined);
    expect(guard.connections).toBe(0);
  });

  test('closes with the private code where the other is not allowed', () => {
    const limiter = few(1, { disconnectThreshold: 1 });
    const socket = guarded({ messages: { limiter } }, standard(true)).connect();
    socket.receive('1', '2');
    expect(socket.closes).toEqual([[4008, 'rate limit exceeded']]);
  });
});

describe('A standard socket that connects', () => {
  const handshaking = () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    return guarded({ connections: { maxPerAddress: 1 } }, standard(false, 0));
  };

  test('is closed and does not count any more if it has not opened in ten seconds', () => {
    const { connect, refused, guard } = handshaking();
    const socket = connect();
    vi.advanceTimersByTime(9999);
    expect(refused().status).toBe(429);
    vi.advanceTimersByTime(1);
    expect([socket.closes, guard.connections]).toEqual([[[]], 0]);
    socket.receive('late');
    expect(socket.received).toEqual([]);
    expect(connect()).toBeDefined();
  });

  test('has its deadline also if its admission is used for an open socket too', () => {
    const { guard, refused, connect } = handshaking();
    const [first, second] = [standard(false, 0)(guard, false), standard()(guard, false)];
    guard.upgrade(new Request('http://localhost/'), { address: '192.0.2.1' }, (admission) => {
      first.upgrade(admission);
      second.upgrade(admission);
    });
    expect(refused().status).toBe(429);
    vi.advanceTimersByTime(10_000);
    expect(first.fake()?.closes).toEqual([[]]);
    expect(connect()).toBeDefined();
  });

  test('stays if it has opened', () => {
    const { connect, refused } = handshaking();
    const socket = connect();
    (socket.socket as unknown as EventTarget).dispatchEvent(new Event('open'));
    vi.advanceTimersByTime(60_000);
    expect([socket.closes, refused().status]).toEqual([[], 429]);
  });
});

describe('A socket of Bun', () => {
  const handlersOf = (options: SocketGuardOptions, handlers: object = {}) => {
    const errors: unknown[] = [];
    const onError = (error: unknown) => errors.push((error as { code?: string }).code);
    const guard = guardWebSockets({ onError, ...options });
    return { guard, errors, handlers: guard.handlers({ message() {}, ...handlers }) };
  };

  test('is terminated if it does not answer the close in time', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { guard, connect } = guarded({ closeGraceSeconds: 2 }, bun());
    const [silent, prompt] = [connect(), connect()];
    guard.expel(silent.socket);
    guard.expel(prompt.socket);
    prompt.end();
    vi.advanceTimersByTime(1999);
    expect(silent.terminations).toBe(0);
    vi.advanceTimersByTime(1);
    expect([silent.terminations, prompt.terminations]).toEqual([1, 0]);
  });

  test('that was upgraded without an admission is closed, and gets nothing', () => {
    const message = vi.fn();
    const opened = vi.fn();
    const { handlers, errors, guard } = handlersOf({}, { message, open: opened });
    for (const data of [undefined, {}, { admission: { guard() {} } }]) {
      const close = vi.fn();
      const socket = { data, close } as never;
      handlers.open?.(socket);
      handlers.message(socket, '1');
      handlers.close?.(socket, 1006, '');
      expect(close).toHaveBeenCalledWith(1011, 'internal error');
    }
    expect(errors).toEqual(Array(3).fill('ERR_LIMITER_OPTION'));
    expect([message.mock.calls, opened.mock.calls, guard.connections]).toEqual([[], [], 0]);
    guard.close();
    const socket = { data: undefined, close() {} } as never;
    handlers.open?.(socket);
    handlers.message(socket, '1');
    expect([message.mock.calls, opened.mock.calls]).toEqual([[[socket, '1']], [[socket]]]);
  });

  test('counts pings and pongs, passes the pongs, and calls the other handlers', () => {
    const calls: unknown[][] = [];
    const noted = (name: string) => (_: unknown, data: unknown) => void calls.push([name, data]);
    const { guard, handlers } = handlersOf(
      { messages: { limiter: few(2) } },
      { message: noted('message'), ping: noted('ping'), pong: noted('pong'), idleTimeout: 5 },
    );
    const socket = { data: {}, close() {} };
    guard.upgrade(new Request('http://localhost/'), undefined, (admission) => {
      socket.data = { admission };
      handlers.open?.(socket as never);
    });
    handlers.ping?.(socket as never, 'a');
    handlers.pong?.(socket as never, 'b');
    handlers.ping?.(socket as never, 'c');
    handlers.pong?.(socket as never, 'd');
    handlers.message(socket as never, 'e');
    expect(calls).toEqual([
      ['ping', 'a'],
      ['pong', 'b'],
      ['pong', 'd'],
    ]);
    expect(handlers).toMatchObject({ idleTimeout: 5 });
  });

  test('is limited to messages that the rules by bytes can allow', () => {
    const maxOf = (options: SocketGuardOptions, handlers: object) =>
      handlersOf(options, handlers).handlers.maxPayloadLength;
    const byBytes = { messages: { limiter: few(500), cost: 'bytes' } } as const;
    const limiter = rules({ rules: { bytes: hourly('connection', 300, { unit: 'bytes' }) } });
    expect(maxOf(byBytes, {})).toBe(500);
    expect(maxOf(byBytes, { maxPayloadLength: 100 })).toBe(100);
    expect(maxOf({ ...byBytes, limiter }, {})).toBe(300);
    expect(maxOf({}, {})).toBeUndefined();
  });

  test.each([undefined, null, {}, { message: 5 }, () => {}])(
    'has no handlers of %o',
    (handlers) => {
      const guard = guardWebSockets({});
      expect(codeOf(() => guard.handlers(handlers as never))).toBe('ERR_LIMITER_OPTION');
    },
  );
});

test.each<[string, unknown]>([
  ['a pause', { onDelay: 'pause' }],
  ['the length of a pause', { maxPauseSeconds: 5 }],
  ['an unknown option', { limits: {} }],
  ['keys without a RuleLimiter', { keys: () => ({}) }],
  ['keys that are no function', { limiter: rules({}), keys: 5 }],
  ['proxies that are none', { trustedProxies: 'example.org' }],
])('guardWebSockets rejects %s', (_, options) => {
  expect(codeOf(() => guardWebSockets(options as never))).toBe('ERR_LIMITER_OPTION');
});

test('The length of a text in UTF-8 is the same with and without a function of the platform', () => {
  for (const text of ['', 'abc', 'é', '€', '😀', 'a😀é€', '\u07ff\u0800\uffff', 'x'.repeat(300)]) {
    expect(utf8Length(text, undefined)).toBe(Buffer.byteLength(text));
  }
});
