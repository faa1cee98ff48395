// Limits for a Nostr relay: each verb has its own cost. Refusals are the replies of NIP-01 and NIP-45, which begin with
// `rate-limited:`. The guard counts frames and bytes before any message is parsed.

import { RateLimiter } from 'relay-limiter';
import { connectionKey } from 'relay-limiter/address';
import { guardWebSocketServer } from 'relay-limiter/ws';
import type { RawData, WebSocket, WebSocketServer } from 'ws';

type Message = [verb: string, ...rest: unknown[]];

/** Called with each message that is within the limits. */
export type Handler = (socket: WebSocket, message: Message) => void;

export function nostrRelay(server: WebSocketServer, handle: Handler): () => void {
  const frames = new RateLimiter({ rateLimit: 50, burstLimit: 200, disconnectThreshold: 100 });
  const bytes = new RateLimiter({ rateLimit: 64_000, burstLimit: 512_000 });
  // Work, in units of one stored event. Limited by connection, because a new public key costs an attacker nothing.
  const work = new RateLimiter({ rateLimit: 5, burstLimit: 30 });
  const guard = guardWebSocketServer(server, {
    connections: { limiter: new RateLimiter({ rateLimit: 1, burstLimit: 20 }), maxPerAddress: 20 },
    messages: [{ limiter: frames }, { limiter: bytes, cost: 'bytes' }],
    onVerdict: ({ socket, did }) => {
      if (did === 'dropped') say(socket, ['NOTICE', 'rate-limited: slow down']);
    },
  });
  server.on('connection', (socket) => {
    socket.on('message', (data) => {
      const message = parse(data);
      if (message === undefined) return say(socket, ['NOTICE', 'invalid: not a message']);
      const [action, seconds] = work.check(connectionKey(socket), costOf(message));
      if (action === 'allow') handle(socket, message);
      else say(socket, refusal(message, seconds));
    });
    socket.on('close', () => work.removePeer(connectionKey(socket)));
  });
  return () => guard.close();
}

function costOf([verb, , ...filters]: Message): number {
  if (verb === 'EVENT') return 1;
  if (verb === 'REQ') return 2 * Math.max(1, filters.length);
  // COUNT sends no events, but searches all of them.
  if (verb === 'COUNT') return 5 * Math.max(1, filters.length);
  return verb === 'CLOSE' ? 0 : 1;
}

function refusal([verb, subject]: Message, seconds: number): Message {
  const wait = seconds === Infinity ? 'too much at once' : `try again in ${Math.ceil(seconds)} s`;
  const reason = `rate-limited: ${wait}`;
  if (verb === 'EVENT')
    return ['OK', (subject as { id?: unknown } | null)?.id ?? '', false, reason];
  if (verb === 'REQ' || verb === 'COUNT') return ['CLOSED', subject, reason];
  return ['NOTICE', reason];
}

function parse(data: RawData): Message | undefined {
  try {
    const message: unknown = JSON.parse(data.toString());
    return Array.isArray(message) && typeof message[0] === 'string'
      ? (message as Message)
      : undefined;
  } catch {
    return undefined;
  }
}

function say(socket: WebSocket | undefined, message: Message): void {
  // If a client does not read, notices of dropped messages must not fill the relay's memory.
  if (socket !== undefined && socket.bufferedAmount < 65_536) socket.send(JSON.stringify(message));
}
