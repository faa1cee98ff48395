// The servers of the tests and of the demonstration get ports of their own.

import { once } from 'node:events';
import { type AddressInfo, createServer, Server } from 'node:net';
import { expect, it, onTestFinished, vi } from 'vitest';
import { findServer, reservePort, StoreServer } from '../../out/examples/fleet/server.js';
import { NO_SERVER } from './support/store.js';

/** Reserves a port; the first that is tried is always the same. */
async function reserve() {
  const random = vi.spyOn(Math, 'random').mockReturnValueOnce(0.5);
  const reserved = await reservePort();
  random.mockRestore();
  onTestFinished(reserved.release);
  return reserved;
}

it('reservePort does not return a reserved port again, although nobody listens on it', async () => {
  const { port } = await reserve();
  expect((await reserve()).port).not.toBe(port);
});

it('reservePort returns no port on which somebody listens, and listens on none', async () => {
  const { port, release } = await reserve();
  const server = createServer().listen(port, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  release();
  const listen = vi.spyOn(Server.prototype, 'listen');
  onTestFinished(() => listen.mockRestore());
  expect((await reserve()).port).not.toBe(port);
  expect(listen).not.toHaveBeenCalled();
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
