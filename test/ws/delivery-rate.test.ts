// How much each connection may get, message by message and in groups, on both engines.

import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
} from 'relay-limiter';
import { connectionKey } from 'relay-limiter/address';
import { describe, expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { ENGINES, type ManualClock, manualClock } from '../support/limiters.js';
import { seeded } from '../support/random.js';
import { printSeedOnFailure, SEED } from '../support/seed.js';
import { few } from '../support/sockets.js';
import { FakeSocket, guardedVirtually } from './virtual.js';

const asWebSocket = (socket: FakeSocket) => socket as unknown as WebSocket;

function serve(options: Parameters<typeof guardedVirtually>[0]) {
  const served = guardedVirtually(options);
  const connect = (count: number) => Array.from({ length: count }, () => served.connect());
  const group = (sockets: FakeSocket[]) => served.guard.group(sockets.map(asWebSocket));
  const send = (socket: FakeSocket, text: string, cost?: number) =>
    served.guard.send(asWebSocket(socket), text, { cost });
  const deliveries = () => served.verdicts.filter(({ kind }) => kind === 'delivery');
  return { ...served, connect, group, send, deliveries };
}

const trackedBy = (limiter: RateLimiter) => limiter.getStats().trackedPeers;

describe.each(ENGINES)('A limiter of deliveries on the %s engine', (engine) => {
  test('drops what is above the rate of a connection, and sends again later', () => {
    const clock = manualClock();
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 2, engine, clock });
    const { connect, send, guard, deliveries } = serve({ delivery: { limiter } });
    const [first, second] = connect(2) as [FakeSocket, FakeSocket];
    expect(['a', 'b', 'c'].map((text) => send(first, text))).toEqual([true, true, false]);
    expect(send(second, 'a')).toBe(true);
    expect(deliveries()).toMatchObject([
      { did: 'dropped', reason: 'rate', action: 'delay', socket: first, data: Buffer.from('c') },
    ]);
    expect(deliveries()[0]?.delaySeconds).toBeCloseTo(1);
    clock.now += 1;
    expect(send(first, 'd')).toBe(true);
    expect(first.stream.texts).toEqual(['a', 'b', 'd']);
    expect(guard.deliveries).toEqual({ sent: 4, droppedSlow: 0, droppedRate: 1, closedSlow: 0 });
  });

  test('takes the length of a message, at least 1, or the cost that it is given', () => {
    const limiter = few(10, { engine });
    const { connect, send, deliveries } = serve({ delivery: { limiter, cost: 'bytes' } });
    const [socket] = connect(1) as [FakeSocket];
    expect(send(socket, 'zwölf')).toBe(true);
    expect(send(socket, '')).toBe(true);
    expect(send(socket, '1234')).toBe(false);
    expect(send(socket, '1234', 2)).toBe(true);
    expect(send(socket, '1')).toBe(true);
    expect(send(socket, '1')).toBe(false);
    expect(send(socket, 'a long answer', 0)).toBe(true);
    expect(send(socket, 'above the burst')).toBe(false);
    expect(deliveries().map(({ reason }) => reason)).toEqual(['rate', 'rate', 'cost']);
  });

  test('does not drop a message with the cost 0 for a banned member of a group', () => {
    const limiter = new DirectConnectionRateLimiter({ engine, clock: manualClock() });
    const { connect, group } = serve({ delivery: { limiter } });
    const [socket] = connect(1) as [FakeSocket];
    const members = group([socket]);
    limiter.ban(connectionKey(socket), 60);
    expect([members.send('a'), members.send('b', { cost: 0 })]).toEqual([0, 1]);
  });

  test('that counts requests does not count a message with the cost 0', () => {
    const limiter = new OrderbookRateLimiter({ engine, clock: manualClock() });
    const { connect, send, group } = serve({ delivery: { limiter } });
    const [socket] = connect(1) as [FakeSocket];
    const members = group([socket]);
    expect([send(socket, 'a'), send(socket, 'b'), members.send('c')]).toEqual([true, false, 0]);
    expect([send(socket, 'd', 0), members.send('e', { cost: 0 })]).toEqual([true, 1]);
  });

  test('drops only, also on DISCONNECT and on a ban', () => {
    const clock = manualClock();
    const disconnecting = few(1, { disconnectThreshold: 1, engine });
    const banning = new DirectConnectionRateLimiter({ messageBurst: 1, engine, clock });
    const once = new OrderbookRateLimiter({ violationBanThreshold: 2, engine, clock });
    for (const limiter of [disconnecting, banning, once]) {
      const { connect, send, group } = serve({ delivery: { limiter, onSlow: 'close' } });
      const [socket, member] = connect(2) as [FakeSocket, FakeSocket];
      const sent = Array.from({ length: 5 }, () => send(socket, 'a'));
      expect(sent).toEqual([true, false, false, false, false]);
      const members = group([member]);
      expect(Array.from({ length: 5 }, () => members.send('a'))).toEqual([1, 0, 0, 0, 0]);
      expect([socket.closes, member.closes]).toEqual([[], []]);
    }
  });

  test('forgets a connection when it closes, also as a member of a group', () => {
    const limiter = few(1, { engine });
    const { connect, send, group } = serve({ delivery: { limiter } });
    const [alone, member, both] = connect(3) as [FakeSocket, FakeSocket, FakeSocket];
    const members = group([member, both]);
    send(alone, 'a');
    send(both, 'a');
    members.send('a');
    expect(trackedBy(limiter)).toBe(3);
    // A listener of the user's may send to the group before the guard hears of the end.
    both.prependListener('close', () => members.send('it leaves'));
    for (const socket of [alone, member, both]) socket.terminate();
    expect(members.size).toBe(0);
    members.send('a');
    expect(send(alone, 'a')).toBe(false);
    expect(trackedBy(limiter)).toBe(0);
  });

  test('is asked once for all members of a group, at one instant', () => {
    const clock = manualClock();
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 2, engine, clock });
    const { connect, send, group, deliveries, guard } = serve({ delivery: { limiter } });
    const sockets = connect(4);
    const [first] = sockets as [FakeSocket];
    const members = group(sockets);
    expect(send(first, 'alone')).toBe(true);
    clock.reads = 0;
    expect(members.send('one')).toBe(4);
    expect(clock.reads).toBe(1);
    expect(members.send('two')).toBe(3);
    expect(members.send('three')).toBe(0);
    expect(first.stream.texts).toEqual(['alone', 'one']);
    for (const { stream } of sockets.slice(1)) expect(stream.texts).toEqual(['one', 'two']);
    expect(deliveries()).toHaveLength(5);
    expect(deliveries()[0]).toMatchObject({ reason: 'rate', delaySeconds: 0, socket: first });
    expect(guard.deliveries).toEqual({ sent: 8, droppedSlow: 0, droppedRate: 5, closedSlow: 0 });
  });

  test('sees a message for a slow connection, which takes its tokens', () => {
    const limiter = few(2, { engine });
    const { connect, group, deliveries } = serve({ delivery: { limiter, maxBufferedBytes: 1 } });
    const [slow] = connect(1) as [FakeSocket];
    slow.stream.isRead = false;
    const members = group([slow]);
    for (let n = 0; n < 3; n += 1) members.send('a');
    expect(deliveries().map(({ reason }) => reason)).toEqual(['slow', 'rate']);
  });

  test('that throws sends nothing', () => {
    const clock = manualClock();
    const limiter = new RateLimiter({ engine, clock });
    const { connect, send, group, guard } = serve({ delivery: { limiter } });
    const sockets = connect(2);
    const members = group(sockets);
    clock.now = Number.NaN;
    const failure = expect.objectContaining({ code: 'ERR_LIMITER_CLOCK' });
    expect(() => send(sockets[0] as FakeSocket, 'a')).toThrow(failure);
    expect(() => members.send('a')).toThrow(failure);
    for (const { stream } of sockets) expect(stream.sent).toEqual([]);
    expect(guard.deliveries.sent).toBe(0);
  });
});

describe.each(ENGINES)('The RuleLimiter of a guard on the %s engine', (engine) => {
  const rulesOf = (clock: ManualClock) =>
    new RuleLimiter({
      scopes: { connection: {}, address: { kind: 'address' } },
      rules: {
        messages: { scope: 'connection', action: 'message', quota: 1, windowSeconds: 10 },
        deliveries: { scope: 'connection', action: 'delivery', quota: 2, windowSeconds: 10 },
        bytes: {
          scope: 'address',
          action: 'delivery',
          unit: 'bytes',
          rateLimit: 10,
          burstLimit: 100,
        },
      },
      plans: { paid: { deliveries: { quota: 3 } } },
      clock,
      engine,
    });

  test('checks deliveries by its rules, keys and plans', () => {
    const clock = manualClock();
    const limiter = rulesOf(clock);
    const { connect, send, group, guard, deliveries } = serve({ limiter, delivery: { limiter } });
    const [first, second] = connect(2) as [FakeSocket, FakeSocket];
    guard.peerOf(asWebSocket(second))?.assign({}, 'paid');
    const members = group([first, second]);
    // Their messages have a rule of their own.
    for (const socket of [first, second]) socket.receive('a');
    expect(Array.from({ length: 4 }, () => members.send('a'))).toEqual([2, 2, 1, 0]);
    expect(deliveries()).toHaveLength(3);
    expect(deliveries()[0]).toMatchObject({
      did: 'dropped',
      reason: 'rate',
      action: 'delay',
      rule: 'deliveries',
      scope: 'connection',
      socket: first,
    });
    expect(deliveries()[0]?.delaySeconds).toBeCloseTo(5);
    clock.now += 10;
    // Both have one address.
    expect(send(first, 'x'.repeat(60))).toBe(true);
    expect(send(second, 'x'.repeat(60))).toBe(false);
    expect(deliveries().at(-1)).toMatchObject({ reason: 'rate', rule: 'bytes', socket: second });
    expect(send(second, 'x'.repeat(101))).toBe(false);
    expect(deliveries().at(-1)).toMatchObject({ reason: 'cost', rule: 'bytes' });
    expect([first.received, second.received]).toEqual([['a'], ['a']]);
  });

  test('leaves the rules without an action to the messages of the receiver', () => {
    const limiter = new RuleLimiter({
      scopes: { address: { kind: 'address' } },
      rules: { messages: { scope: 'address', quota: 2, windowSeconds: 10 } },
      bans: { address: { violations: 1, withinSeconds: 60, seconds: 60 } },
      clock: manualClock(),
      engine,
    });
    const { connect, send, group } = serve({ limiter, delivery: { limiter } });
    const [socket] = connect(1) as [FakeSocket];
    const members = group([socket]);
    for (let n = 0; n < 5; n += 1)
      expect([send(socket, 'a'), members.send('a')]).toEqual([true, 1]);
    expect(limiter.banSecondsLeft('address', '192.0.2.1')).toBe(0);
    // The connection has taken the other token.
    socket.receive('a');
    expect(socket.received).toEqual(['a']);
    // Other callers may use the action, too, and then these rules apply.
    const keys = { address: '192.0.2.2' };
    const outcomes = [1, 2, 3].map(() => limiter.check(keys, 1, 'delivery').outcome);
    expect(outcomes).toEqual(['allow', 'allow', 'banned']);
  });

  test('bans no receiver for what it is sent, unless a rule of deliveries says so', () => {
    const rule = { scope: 'address', action: 'delivery', quota: 1, windowSeconds: 10 };
    const isBannedWith = (fields: object) => {
      const limiter = new RuleLimiter({
        scopes: { address: { kind: 'address' } },
        rules: { deliveries: { ...rule, ...fields } },
        bans: { address: { violations: 2, withinSeconds: 60, seconds: 60 } },
        clock: manualClock(),
        engine,
      });
      const { connect, send } = serve({ limiter, delivery: { limiter } });
      const [socket] = connect(1) as [FakeSocket];
      for (let n = 0; n < 5; n += 1) send(socket, 'a');
      return limiter.banSecondsLeft('address', '192.0.2.1') > 0;
    };
    expect(isBannedWith({})).toBe(false);
    expect(isBannedWith({ action: ['publish', 'delivery'] })).toBe(false);
    expect(isBannedWith({ violation: true })).toBe(true);
  });

  test('does not check a message with the cost 0', () => {
    const limiter = rulesOf(manualClock());
    const { connect, send, group, deliveries } = serve({ limiter, delivery: { limiter } });
    const [socket] = connect(1) as [FakeSocket];
    expect(send(socket, 'x'.repeat(100))).toBe(true);
    expect(send(socket, 'x')).toBe(false);
    expect(send(socket, 'x', 0)).toBe(true);
    expect(group([socket]).send('x', { cost: 0 })).toBe(1);
    expect(deliveries()).toHaveLength(1);
  });

  test('drops what is for a banned connection', () => {
    const limiter = rulesOf(manualClock());
    const { connect, send, deliveries } = serve({ limiter, delivery: { limiter } });
    const [socket] = connect(1) as [FakeSocket];
    limiter.ban('address', '192.0.2.1', Infinity);
    expect(send(socket, 'a')).toBe(false);
    expect(socket.closes).toEqual([]);
    expect(deliveries()).toMatchObject([{ reason: 'rate', action: 'disconnect', rule: null }]);
  });

  test('limits no connection that is not guarded, and nothing after guard.close', () => {
    const limiter = rulesOf(manualClock());
    const { connect, send, group, guard } = serve({ limiter, delivery: { limiter } });
    const [guarded] = connect(1) as [FakeSocket];
    const unguarded = new FakeSocket();
    const sentTo = (socket: FakeSocket) => Array.from({ length: 4 }, () => send(socket, 'a'));
    expect(sentTo(unguarded)).toEqual([true, true, true, true]);
    expect(sentTo(guarded)).toEqual([true, true, false, false]);
    guard.close();
    expect(sentTo(guarded)).toEqual([true, true, true, true]);
    expect(group([guarded, unguarded]).send('a')).toBe(2);
  });

  test('does not check deliveries unless it is the limiter of delivery', () => {
    const { connect, send } = serve({ limiter: rulesOf(manualClock()) });
    const [socket] = connect(1) as [FakeSocket];
    expect(Array.from({ length: 4 }, () => send(socket, 'a'))).toEqual([true, true, true, true]);
  });
});

describe('A group of connections', () => {
  const readers = (count: number) => {
    const served = serve({ delivery: { maxBufferedBytes: 1 } });
    return { ...served, sockets: served.connect(count) };
  };

  test('sends one frame to all members', () => {
    const { sockets, group } = readers(3);
    expect(group(sockets).send('a')).toBe(3);
    const frames = sockets.map(({ stream }) => stream.sent[0]);
    expect(frames[0]).toEqual(Buffer.from([0x81, 1, 97]));
    expect(new Set(frames).size).toBe(1);
  });

  test('has each connection once, and loses those that are deleted or closed', () => {
    const { sockets, group } = readers(5);
    const [first, second, third, fourth, fifth] = sockets as [
      FakeSocket,
      FakeSocket,
      FakeSocket,
      FakeSocket,
      FakeSocket,
    ];
    const members = group([first, second, third, first]);
    members.add(asWebSocket(fourth));
    members.add(asWebSocket(second));
    expect(members.size).toBe(4);
    expect(members.has(asWebSocket(fourth))).toBe(true);
    expect(members.delete(asWebSocket(first))).toBe(true);
    expect(members.delete(asWebSocket(first))).toBe(false);
    expect(members.has(asWebSocket(first))).toBe(false);
    third.terminate();
    expect(members.size).toBe(2);
    members.add(asWebSocket(third));
    expect(members.size).toBe(2);
    members.add(asWebSocket(fifth));
    expect(members.send('a')).toBe(3);
    const received = sockets.map(({ stream }) => stream.texts.length);
    expect(received).toEqual([0, 1, 0, 1, 1]);
  });

  test('sends nothing to a member that is closing, which counts as nothing', () => {
    const { sockets, group, guard, deliveries } = readers(2);
    const [closing] = sockets as [FakeSocket];
    const members = group(sockets);
    guard.expel(asWebSocket(closing));
    expect(members.size).toBe(2);
    expect(members.send('a')).toBe(1);
    expect(closing.stream.sent).toEqual([]);
    expect(deliveries()).toEqual([]);
    expect(guard.deliveries).toEqual({ sent: 1, droppedSlow: 0, droppedRate: 0, closedSlow: 0 });
  });

  test('sends to its members, whatever the order in which they come and leave', () => {
    printSeedOnFailure();
    const random = seeded(SEED);
    const { connect, group } = serve({
      delivery: { limiter: new RateLimiter({ rateLimit: 1e6 }) },
    });
    const sockets = connect(20);
    const members = group([]);
    const expected = new Set<FakeSocket>();
    for (let n = 0; n < 500; n += 1) {
      const socket = random.pick(sockets);
      if (random() < 0.5) {
        members.add(asWebSocket(socket));
        expected.add(socket);
      } else {
        expect(members.delete(asWebSocket(socket))).toBe(expected.delete(socket));
      }
      for (const { stream } of sockets) stream.sent.length = 0;
      expect(members.send('a')).toBe(expected.size);
      const receivers = sockets.filter(({ stream }) => stream.sent.length === 1);
      expect(new Set(receivers)).toEqual(expected);
      expect(members.has(asWebSocket(socket))).toBe(expected.has(socket));
    }
  });

  test('keeps the limits of each member after others have left', () => {
    const limiter = few(2);
    const { connect, group } = serve({ delivery: { limiter } });
    const sockets = connect(4);
    const [first, second, third, last] = sockets as [
      FakeSocket,
      FakeSocket,
      FakeSocket,
      FakeSocket,
    ];
    group([last]).send('a');
    const members = group(sockets);
    members.delete(asWebSocket(first));
    second.terminate();
    expect(members.send('b')).toBe(2);
    // Only the last one has no token left.
    expect(members.send('c')).toBe(1);
    expect(third.stream.texts).toEqual(['b', 'c']);
    expect(last.stream.texts).toEqual(['a', 'b']);
  });

  test('sends to each member at most once while onVerdict closes and deletes members', () => {
    const served = serve({
      delivery: { maxBufferedBytes: 1 },
      onVerdict: ({ kind }) => {
        if (kind !== 'delivery') return;
        for (const socket of sockets.slice(0, 3)) socket.terminate();
      },
    });
    const sockets = served.connect(6);
    for (const { stream } of sockets.slice(0, 2)) stream.isRead = false;
    const members = served.group(sockets);
    expect(members.send('a')).toBe(6);
    expect(members.send('b')).toBe(4);
    expect(members.size).toBe(3);
    for (const { stream } of sockets.slice(2)) expect(stream.texts).toEqual(['a', 'b']);
  });

  test('sends to a slow member again when it has read', () => {
    const { sockets, group, guard } = readers(3);
    const [slow] = sockets as [FakeSocket];
    slow.stream.isRead = false;
    const members = group(sockets);
    expect(['a', 'b'].map((text) => members.send(text))).toEqual([3, 2]);
    slow.stream.read();
    expect(members.send('c')).toBe(3);
    slow.stream.read();
    expect(slow.stream.texts).toEqual(['a', 'c']);
    expect(guard.deliveries).toEqual({ sent: 8, droppedSlow: 1, droppedRate: 0, closedSlow: 0 });
  });

  test('limits nothing after guard.close, and still loses closed connections', () => {
    const limiter = few(1);
    const { connect, group, guard } = serve({ delivery: { limiter, maxBufferedBytes: 1 } });
    const sockets = connect(2);
    const [slow] = sockets as [FakeSocket];
    slow.stream.isRead = false;
    const members = group(sockets);
    guard.close();
    expect(['a', 'b', 'c'].map((text) => members.send(text))).toEqual([2, 2, 2]);
    slow.terminate();
    expect(members.size).toBe(1);
  });

  test('refuses what is no WebSocket, and is not changed by it', () => {
    const { sockets, group, guard } = readers(1);
    const members = group(sockets);
    const refusal = expect.objectContaining({ code: 'ERR_LIMITER_OPTION' });
    for (const nothing of [undefined, null, {}, 'text']) {
      const socket = nothing as unknown as WebSocket;
      expect(() => members.add(socket)).toThrow(refusal);
      expect(() => members.delete(socket)).toThrow(refusal);
      expect(() => guard.group([socket])).toThrow(refusal);
    }
    expect(() => guard.group(1 as unknown as WebSocket[])).toThrow(refusal);
    expect(() => members.send(1 as unknown as string)).toThrow(refusal);
    expect(members.size).toBe(1);
  });
});

describe('The option delivery', () => {
  test.each([
    [{ maxBufferedBytes: 0 }, 'maxBufferedBytes must be a finite number greater than 0, got 0'],
    [{ maxBufferedBytes: '1' }, 'maxBufferedBytes must be a finite number greater than 0, got "1"'],
    [{ onSlow: 'pause' }, `onSlow must be 'drop' or 'close', got "pause"`],
    [{ cost: 1 }, "the cost of delivery must be absent or 'bytes', got 1"],
    [
      { limiter: new RuleLimiter({ scopes: { connection: {} }, rules: {} }) },
      'the limiter of delivery must be the RuleLimiter of the option limiter, or a limiter of another class, got an object',
    ],
    [{ rate: 1 }, /^unknown option "rate" of delivery/],
    [{ limiter: {} }, /^the limiter of delivery must be a RateLimiter/],
    [new Map(), 'the options of delivery must be an object of options, got a Map'],
  ])('refuses %j', (delivery, message) => {
    const start = () => guardedVirtually({ delivery: delivery as object });
    expect(start).toThrow(message);
    expect(start).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
  });

  test('refuses a cost for a RuleLimiter', () => {
    const limiter = new RuleLimiter({ scopes: { connection: {} }, rules: {} });
    expect(() => guardedVirtually({ limiter, delivery: { limiter, cost: 'bytes' } })).toThrow(
      'the cost of delivery must be absent for a RuleLimiter (a rule has a unit), got "bytes"',
    );
  });
});
