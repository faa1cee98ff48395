// A relay of the fleet: a WebSocket server that checks every message by the name of its peer against the limit that all
// relays share.

import { once } from 'node:events';
import { createClient } from 'redis';
import { SharedRateLimiter } from 'relay-limiter/redis';
import { WebSocketServer } from 'ws';
import { sendToParent, work } from '../relay/demo/worker.js';
import {
  type Counts,
  FLOODER,
  type FromNode,
  machineSeconds,
  type NodeConfig,
} from './messages.js';

const REPORT_EVERY_MS = 200;

await work<NodeConfig>(async ({ url, ...limit }) => {
  const client = createClient({ url, socket: { reconnectStrategy: 100 } });
  await client.on('error', () => {}).connect();
  const limiter = new SharedRateLimiter({ client, ...limit });
  limiter.on('state', ({ state }) => {
    sendToParent<FromNode>({ kind: 'state', at: machineSeconds(), isDown: state === 'down' });
  });

  let admitted = 0;
  let refused = 0;
  let admissions: Counts['admissions'] = [];
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  server.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('message', async (data) => {
      const peer = data.toString();
      const from = machineSeconds();
      const [action] = await limiter.checkAsync(peer);
      if (peer !== FLOODER) return;
      if (action === 'allow') {
        admitted += 1;
        admissions.push([from, machineSeconds()]);
      } else refused += 1;
    });
  });
  await once(server, 'listening');
  sendToParent<FromNode>({ kind: 'listening', port: (server.address() as { port: number }).port });

  const report = () => {
    const { leasedTokens, store } = limiter.getStats();
    sendToParent<FromNode>({
      kind: 'counts',
      admitted,
      refused,
      calls: store.calls + store.beats,
      leased: leasedTokens,
      nodes: store.nodes,
      store: store.state,
      admissions,
    });
    admissions = [];
  };
  setInterval(report, REPORT_EVERY_MS);
});
