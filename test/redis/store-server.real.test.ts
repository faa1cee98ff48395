// The servers of the tests and of the demonstration get ports of their own.

import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, expect, it, vi } from 'vitest';
import { findServer, reservePort, StoreServer } from '../../out/examples/fleet/server.js';
import { NO_SERVER } from './support/store.js';

afterEach(() => {
  vi.restoreAllMocks();
});

it('a port that is reserved is not reserved again, although nobody listens on it yet', async () => {
  const random = vi.spyOn(Math, 'random').mockReturnValueOnce(0.5);
  const first = await reservePort();
  random.mockReturnValueOnce(0.5);
  const second = await reservePort();
  expect(second.port).not.toBe(first.port);
  first.release();
  second.release();
});

it.skipIf(NO_SERVER)(
  'a server that ends because one of its ports is taken is an error',
  async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const bus = ['--cluster-port', String((taken.address() as AddressInfo).port)];
    await expect(
      StoreServer.start(findServer() as string, ['--cluster-enabled', 'yes', ...bus]),
    ).rejects.toThrow('ended with code 1');
    taken.close();
  },
);
