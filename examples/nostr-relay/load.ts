// The load of the demonstration: honest authors, who publish some notes each, and one flooder. Each client has an address
// of its own in X-Forwarded-For.

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { idOf, type NostrEvent } from './protocol.js';

const AUTHORS = 8;
const NOTES = 10;
const BATCH = 100;
const BATCH_MS = 20;
/** The flooder goes on for so much longer if it has not been banned yet. */
const MAX_EXTRA_SECONDS = 120;

export interface LoadReport {
  readonly honest: { readonly published: number; readonly accepted: number };
  readonly flooder: {
    readonly published: number;
    readonly accepted: number;
    /** Connections that were closed for a ban, and connections that were refused. */
    readonly closed: number;
    readonly refused: number;
  };
}

/** An event without a valid signature, which this relay does not verify. */
export function unsignedEvent(given: Partial<NostrEvent> & { pubkey: string }): NostrEvent {
  const created_at = Math.floor(Date.now() / 1000);
  const event = { created_at, kind: 1, tags: [], content: '', sig: '0'.repeat(128), ...given };
  return { ...event, id: idOf(event) };
}

/** Runs for `seconds`, and until the flooder is banned. Rejects if `signal` is aborted. */
export async function runLoad(
  port: number,
  seconds: number,
  signal: AbortSignal,
): Promise<LoadReport> {
  const until = performance.now() + seconds * 1000;
  const authors = Array.from({ length: AUTHORS }, (_, at) => publish(port, at, seconds, signal));
  const [flooder, ...honest] = await Promise.all([flood(port, until, signal), ...authors]);
  const accepted = honest.reduce((total, count) => total + count, 0);
  return { honest: { published: AUTHORS * NOTES, accepted }, flooder };
}

function connect(port: number, address: string): WebSocket {
  const headers = { 'X-Forwarded-For': address };
  const socket = new WebSocket(`ws://127.0.0.1:${port}`, { headers });
  // A connection that is refused or cut closes, too.
  socket.on('error', () => {});
  return socket;
}

/** Publishes the notes of one author. Resolves with the number of those that the relay accepts. */
async function publish(
  port: number,
  at: number,
  seconds: number,
  signal: AbortSignal,
): Promise<number> {
  const pubkey = String(at).repeat(64);
  const socket = connect(port, `203.0.113.${at + 1}`);
  let accepted = 0;
  socket.on('message', (data) => {
    const [verb, , isAccepted] = JSON.parse(data.toString());
    if (verb === 'OK' && isAccepted) accepted += 1;
  });
  try {
    await once(socket, 'open', { signal });
    for (let note = 0; note < NOTES; note += 1) {
      socket.send(JSON.stringify(['EVENT', unsignedEvent({ pubkey, content: `note ${note}` })]));
      await sleep((seconds * 1000) / NOTES, undefined, { signal });
    }
    // The reply to a close comes after all other replies.
    socket.close();
    if (socket.readyState !== WebSocket.CLOSED) await once(socket, 'close', { signal });
    return accepted;
  } finally {
    socket.terminate();
  }
}

/** Sends as many notes as it can, and connects again when it is cut. */
async function flood(
  port: number,
  until: number,
  signal: AbortSignal,
): Promise<LoadReport['flooder']> {
  const counts = { published: 0, accepted: 0, closed: 0, refused: 0 };
  const isOver = () => {
    const now = performance.now();
    return now > until && (counts.refused > 0 || now > until + MAX_EXTRA_SECONDS * 1000);
  };
  while (!isOver()) {
    const socket = connect(port, '203.0.113.250');
    socket.on('message', (data) => {
      const [verb, , isAccepted] = JSON.parse(data.toString());
      if (verb === 'OK' && isAccepted) counts.accepted += 1;
    });
    socket.on('close', (code) => {
      if (code === 1008) counts.closed += 1;
    });
    socket.on('unexpected-response', () => {
      counts.refused += 1;
      socket.terminate();
    });
    try {
      while (socket.readyState !== WebSocket.CLOSED && !isOver()) {
        for (let n = 0; n < BATCH && socket.readyState === WebSocket.OPEN; n += 1) {
          counts.published += 1;
          const content = `spam ${counts.published}`;
          const event = unsignedEvent({ pubkey: 'f'.repeat(64), content });
          socket.send(JSON.stringify(['EVENT', event]));
        }
        await sleep(BATCH_MS, undefined, { signal });
      }
    } finally {
      socket.terminate();
    }
  }
  return counts;
}
