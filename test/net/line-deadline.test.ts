// The option lineSeconds of guardLineServer, in virtual time.

import { createServer, type Socket } from 'node:net';
import { OrderbookRateLimiter } from 'relay-limiter';
import { guardLineServer, type LineGuardOptions, type LineVerdict } from 'relay-limiter/net';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { FakeSocket, settled } from './virtual.js';

vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
beforeEach(() => vi.clearAllTimers());
afterAll(() => void vi.useRealTimers());

function connected(options: LineGuardOptions) {
  const server = createServer();
  const verdicts: LineVerdict[] = [];
  const lines: unknown[] = [];
  server.on('connection', (socket: Socket) => socket.on('line', (line) => lines.push(line)));
  const guard = guardLineServer(server, {
    onVerdict: (verdict) => verdicts.push(verdict),
    ...options,
  });
  const socket = new FakeSocket('192.0.2.1');
  server.emit('connection', socket);
  const receive = async (text: string) => {
    socket.receive(text);
    await settled();
  };
  return { socket, receive, verdicts, lines, guard };
}

const seconds = (count: number) => vi.advanceTimersByTime(count * 1000);

describe('lineSeconds', () => {
  test('closes a connection whose line dribbles in, as an offence', async () => {
    const expulsions = new OrderbookRateLimiter({ interval: 60, violationBanThreshold: 0 });
    const { receive, verdicts, lines } = connected({ lineSeconds: 10, expulsions });
    await receive('hello\nx');
    for (let n = 0; n < 9; n += 1) {
      seconds(1);
      await receive('x');
    }
    expect(verdicts.every(({ did }) => did === 'passed')).toBe(true);
    seconds(1);
    expect(verdicts.at(-1)).toMatchObject({
      did: 'closed',
      reason: 'unfinished',
      data: 'x'.repeat(10),
    });
    expect(lines).toEqual(['hello']);
    expect(expulsions.isBanned('192.0.2.1')).toBe(true);
  });

  test('gives each line its own time, and none to a peer that says nothing', async () => {
    const { receive, lines, verdicts } = connected({ lineSeconds: 10 });
    for (let n = 0; n < 5; n += 1) {
      await receive('a');
      seconds(9);
      await receive('b\nc');
      seconds(9);
      await receive('\n');
      seconds(1000);
    }
    expect(lines).toHaveLength(10);
    expect(verdicts.every(({ did }) => did === 'passed')).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('waits while the user has paused the socket', async () => {
    const { socket, receive, verdicts } = connected({ lineSeconds: 10 });
    await receive('a');
    socket.pause();
    seconds(100);
    expect(verdicts.at(-1)).toMatchObject({ kind: 'connection', did: 'passed' });
    socket.resume();
    seconds(10);
    expect(verdicts.at(-1)).toMatchObject({ did: 'closed', reason: 'unfinished' });
  });

  test('ends with the connection and with the guard', async () => {
    const first = connected({ lineSeconds: 10 });
    await first.receive('a');
    first.socket.destroy();
    const second = connected({ lineSeconds: 10 });
    await second.receive('a');
    second.guard.close();
    await settled();
    expect(vi.getTimerCount()).toBe(0);
  });

  test('must be greater than 0', () => {
    for (const lineSeconds of [0, -1, Number.NaN, '1']) {
      const options = { lineSeconds } as LineGuardOptions;
      expect(codeOf(() => guardLineServer(createServer(), options))).toBe('ERR_LIMITER_OPTION');
    }
  });
});
