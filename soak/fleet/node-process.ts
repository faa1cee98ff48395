// A node of the fleet: a limiter under load. It logs what it admits, and when it takes the store for down.

import { sendToParent, work } from '../../examples/relay/demo/worker.js';
import { CONNECT, clusterIoRedis, clusterNodeRedis } from './clients.js';
import { NodeLog } from './log.js';
import type { FromNode, NodeConfig, ToNode } from './messages.js';
import { createMachineClock } from './shifted-clocks.js';
import { createSubject, PEERS } from './subject.js';

const TICK_MS = 4;
/** Checks that a node makes at once after it has been stopped. */
const MAX_BACKLOG = 20;

await work<NodeConfig>(async ({ ports, client, engine, limit, nodes, log: file }) => {
  const seconds = createMachineClock();
  const log = new NodeLog(file);
  const own = await connect(client, ports);
  const subject = createSubject(own.client, engine, nodes, limit);
  subject.onState((state) => log.store(state, seconds()));
  let checksPerSecond = 0;
  let askedAt = Number.NEGATIVE_INFINITY;
  let admittedSince = Number.NEGATIVE_INFINITY;

  const check = async (count: number) => {
    const peer = PEERS[count % PEERS.length] as string;
    // Mostly 1, sometimes up to a quarter of the burst.
    const cost = Math.random() < 0.97 ? 1 : Math.ceil((Math.random() * limit.burstLimit) / 4);
    const isAtOnce = limit.mode === 'leased' && Math.random() < 0.5;
    const from = seconds();
    const isAllowed = await subject.check(peer, cost, isAtOnce);
    if (!isAllowed) return;
    const at = seconds();
    for (const bucket of subject.bucketsOf(peer)) log.admitted(bucket, from, at, cost);
    if (from > askedAt) admittedSince = from;
  };

  let due = 0;
  let checks = 0;
  let last = seconds();
  setInterval(() => {
    const now = seconds();
    due = Math.min(due + (now - last) * checksPerSecond, MAX_BACKLOG);
    last = now;
    for (; due >= 1; due -= 1) {
      checks += 1;
      void check(checks);
    }
  }, TICK_MS);

  process.on('message', (message: ToNode) => {
    if (message.kind === 'pace') {
      checksPerSecond = message.checksPerSecond;
      return;
    }
    const { question } = message;
    const hasAdmitted = admittedSince > askedAt;
    askedAt = seconds();
    sendToParent<FromNode>({
      kind: 'state',
      question,
      state: { ...subject.state(), hasAdmitted },
    });
  });
  sendToParent<FromNode>({ kind: 'ready' });
});

function connect(client: NodeConfig['client'], ports: readonly number[]) {
  const [port, ...others] = ports as [number, ...number[]];
  if (others.length === 0) return CONNECT[client](port);
  return client === 'ioredis' ? clusterIoRedis(ports) : clusterNodeRedis(ports);
}
