// limitInterceptor with handlers of undici 6, which undici 7 still accepts.

import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { limitInterceptor, PolicyLimiter } from 'relay-limiter/client';
import { Agent, type Dispatcher } from 'undici';
import { afterEach, describe, expect, it } from 'vitest';
import { manualClock } from '../support/limiters.js';
import { goneServer, serve } from './http.js';
import { plenty, single, spent } from './support.js';

const open: Dispatcher[] = [];
afterEach(async () => {
  for (const agent of open.splice(0)) await agent.destroy();
});

describe('limitInterceptor with a handler of undici 6', () => {
  type Event = [name: string, ...about: unknown[]];

  /** Sends a request with such a handler and collects the events of the handler. */
  function dispatch(limiter: PolicyLimiter, origin: string) {
    const agent = new Agent();
    open.push(agent);
    const events: Event[] = [];
    let abort: (reason?: Error) => void = () => {};
    const ended = new Promise<Event[]>((resolve) => {
      const handler = {
        onConnect: (given: typeof abort) => {
          abort = given;
          events.push(['connect']);
        },
        onHeaders: (status: number) => {
          events.push(['headers', status]);
          return true;
        },
        onData: (chunk: Buffer) => {
          events.push(['data', chunk.toString()]);
          return true;
        },
        onComplete: () => {
          events.push(['complete']);
          resolve(events);
        },
        onError: (error: unknown) => {
          events.push(['error', error]);
          resolve(events);
        },
      };
      const limited = limitInterceptor(limiter)(agent.dispatch.bind(agent));
      expect(limited({ origin, path: '/', method: 'GET' }, handler)).toBe(true);
    });
    return { ended, abort: (reason: Error) => abort(reason) };
  }

  it('passes all events to the handler and the limits to the limiter', async () => {
    const fields = { RateLimit: '"a";r=5;t=30, "b";r=0;t=60', 'Set-Cookie': ['a=1', 'b=2'] };
    const server = await serve((response) => response.writeHead(200, fields).end('yes'));
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
    const events = await dispatch(limiter, server.origin).ended;
    expect(events).toEqual([['connect'], ['headers', 200], ['data', 'yes'], ['complete']]);
    expect(limiter.delaySeconds()).toBeGreaterThanOrEqual(60);
  });

  it('removes an aborted request from the queue', async () => {
    const limiter = spent();
    const { ended, abort } = dispatch(limiter, 'http://127.0.0.1:1');
    await expect.poll(() => limiter.state().waiting).toBe(1);
    const reason = new Error('enough');
    abort(reason);
    expect(await ended).toEqual([['connect'], ['error', reason]]);
    expect(limiter.state().waiting).toBe(0);
  });

  it('aborts a request under way', async () => {
    const server = await serve(() => {});
    const { ended, abort } = dispatch(new PolicyLimiter(plenty), server.origin);
    await expect.poll(() => server.received.length).toBe(1);
    abort(new Error('enough'));
    expect(await ended).toEqual([['connect'], ['error', new Error('enough')]]);
  });

  it('takes quota for an upgrade, and passes its socket', async () => {
    const http = createServer();
    http.on('upgrade', (_, socket) => {
      const fields = 'Connection: upgrade\r\nUpgrade: a\r\nRateLimit: "a";r=0;t=60\r\n';
      socket.end(`HTTP/1.1 101 Switching Protocols\r\n${fields}\r\n`);
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const origin = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
    const agent = new Agent();
    open.push(agent);
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
    const limited = limitInterceptor(limiter)(agent.dispatch.bind(agent));
    const upgraded = await new Promise<{ status: number; socket: Socket }>((resolve, reject) => {
      const handler = {
        onConnect: () => {},
        onUpgrade: (status: number, _: unknown, socket: Socket) => resolve({ status, socket }),
        onError: reject,
      };
      limited({ origin, path: '/', method: 'GET', upgrade: 'a' }, handler as never);
    });
    expect(upgraded.status).toBe(101);
    expect(limiter.delaySeconds()).toBeGreaterThanOrEqual(60);
    expect(limiter.state().running).toBe(0);
    upgraded.socket.destroy();
    http.close();
  });

  it('refunds quota if nothing was sent', async () => {
    const limiter = single();
    const { origin } = await goneServer();
    const [, [name, error] = []] = await dispatch(limiter, origin).ended;
    expect([name, (error as { code?: string }).code]).toEqual(['error', 'ECONNREFUSED']);
    expect(limiter.delaySeconds()).toBe(0);
  });
});
