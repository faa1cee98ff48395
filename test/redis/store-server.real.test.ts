// The servers of the tests and of the demonstration get ports of their own.

import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { expect, it, onTestFinished, vi } from 'vitest';
import { findServer, reservePort, StoreServer } from '../../out/examples/fleet/server.js';
import { NO_SERVER } from './support/store.js';

it('reservePort does not return a reserved port again, although nobody listens on it', async () => {
  const random = vi.spyOn(Math, 'random');
  onTestFinished(() => random.mockRestore());
  const reserve = async () => {
    random.mockReturnValueOnce(0.5);
    const reserved = await reservePort();
    onTestFinished(reserved.release);
    return reserved.port;
  };
  const first = await reserve();
  expect(await reserve()).not.toBe(first);
});

it.skipIf(NO_SERVER)(
  'StoreServer.start rejects if the server ends at its second port',
  async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    onTestFinished(() => void taken.close());
    await once(taken, 'listening');
    const bus = ['--cluster-port', String((taken.address() as AddressInfo).port)];
    const start = StoreServer.start(findServer() as string, ['--cluster-enabled', 'yes', ...bus]);
    await expect(start).rejects.toThrow('ended with code 1');
  },
);
