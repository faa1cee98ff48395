// The flood: one peer that connects to every relay and sends to all of them at the same rate. Each relay also has one
// steady peer, which sends within the limit.

import { once } from 'node:events';
import { WebSocket } from 'ws';
import { work } from '../relay/demo/worker.js';
import { FLOODER, type LoadConfig } from './messages.js';

const TICK_MS = 20;

await work<LoadConfig>(async ({ ports, rate, steadyRate }) => {
  const sockets = ports.map((port) => new WebSocket(`ws://127.0.0.1:${port}`));
  for (const socket of sockets) socket.on('error', () => {});
  await Promise.all(sockets.map((socket) => once(socket, 'open')));
  let sent = 0;
  const start = performance.now();
  setInterval(() => {
    const due = ((performance.now() - start) / 1000) * rate;
    for (; sent < due; sent += 1) for (const socket of sockets) socket.send(FLOODER);
  }, TICK_MS);
  const sendSteadily = () => sockets.forEach((socket, at) => void socket.send(`alice-${at + 1}`));
  setInterval(sendSteadily, 1000 / steadyRate);
});
