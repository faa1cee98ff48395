// The flood: one peer with several connections, which node:cluster spreads over the workers. Each one is made anew after
// a while, and when its worker has ended, so that a new worker gets some of them.

import { connect, type Socket } from 'node:net';
import { work } from '../relay/demo/worker.js';
import { FLOODER, type FloodConfig } from './messages.js';

const TICK_MS = 20;
/** Milliseconds between two connections that are made anew. */
const RENEWAL_MS = 100;
/** A worker that does not read gets no more until it does. */
const MAX_WAITING_BYTES = 65_536;

await work<FloodConfig>(async ({ port, connections, rate }) => {
  const sockets: (Socket | undefined)[] = Array.from({ length: connections });
  let next = 0;
  let sent = 0;
  const start = performance.now();
  const dial = (at: number) => {
    const socket = connect(port, '127.0.0.1');
    sockets[at] = socket;
    socket.on('error', () => {});
    socket.on('close', () => {
      sockets[at] = undefined;
      setTimeout(() => dial(at), TICK_MS);
    });
  };
  for (let at = 0; at < connections; at += 1) dial(at);
  let oldest = 0;
  setInterval(() => {
    sockets[oldest]?.end();
    oldest = (oldest + 1) % connections;
  }, RENEWAL_MS);
  setInterval(() => {
    const due = ((performance.now() - start) / 1000) * rate;
    for (; sent < due; sent += 1) {
      next = (next + 1) % connections;
      const socket = sockets[next];
      if (socket?.writable && socket.writableLength < MAX_WAITING_BYTES) {
        socket.write(`${FLOODER}\n`);
      }
    }
  }, TICK_MS);
});
