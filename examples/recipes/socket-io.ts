// Limits for socket.io: new connections, and the packets of each connection. The limits of a connection stay in force if
// its transport changes from polling to WebSocket, and if it opens very many sockets.

import type { IncomingMessage } from 'node:http';
import type { CheckResult, RateLimiter } from 'relay-limiter';
import { addressKey, addressResolver, connectionKey } from 'relay-limiter/address';
import type { Server, ServerOptions, Socket } from 'socket.io';

type Connection = Socket['conn'];

/** Matches the head of an encoded socket.io packet: its type, the number of attachments, its namespace. */
const HEAD = /^([0-6])(?:(\d{1,9})-)?(\/[^,]{0,100})?/;
/** Attachments that one event may bring; the connection is closed for more. */
const MOST_ATTACHMENTS = 10;
const ALLOWED: CheckResult = ['allow', 0];
const CLOSED: CheckResult = ['disconnect', 0];
const addressOf = addressResolver({ trustedProxies: 'loopback' });

/** For `new Server(http, { allowRequest: allowRequest(limiter) })`: called for each handshake and each poll. */
export function allowRequest(limiter: RateLimiter): NonNullable<ServerOptions['allowRequest']> {
  return (request, answer) => {
    // A poll of an open connection contains its id; `limitPackets` limits its packets.
    if (new URL(request.url ?? '', 'http://a').searchParams.has('sid')) return answer(null, true);
    const [action] = limiter.check(keyOf(request));
    answer(action === 'allow' ? null : 'rate limit exceeded', action === 'allow');
  };
}

/**
 * Counts all packets of a connection, of any kind, namespace and transport: events, acknowledgements, connections to
 * unknown namespaces, heartbeats. Drops packets beyond the limit before they are parsed, notifies the sender, and closes
 * the connection if the sender continues.
 */
export function limitPackets(io: Server, limiter: RateLimiter): void {
  io.engine.on('connection', (conn: Connection) => {
    const peer = limiter.open(connectionKey(conn));
    let verdict = ALLOWED;
    let attachments = 0;
    const count = (data?: unknown) => {
      const [, type, others = '0'] = headOf(data);
      // A DISCONNECT is free, because the CONNECT before it was counted.
      if (type === '1') {
        verdict = ALLOWED;
        return;
      }
      const checked = peer.check();
      if (checked[0] === 'disconnect') conn.close(true);
      // Attachments follow their packet directly, and pass if the packet passed.
      attachments -= 1;
      const isAttachment = attachments >= 0 && typeof data !== 'string';
      if (isAttachment && checked[0] !== 'disconnect') return;
      verdict = Number(others) > MOST_ATTACHMENTS ? CLOSED : checked;
      attachments = verdict === CLOSED ? 0 : Number(others);
      if (verdict === CLOSED) conn.close(true);
    };
    // The event 'packet' comes before 'data', and also for packets that are not messages.
    conn.on('packet', ({ data }) => count(data));
    // The server answers each probe of another transport, so probes count too.
    conn.on('upgrading', () => count());
    for (const parse of conn.listeners('data')) {
      conn.removeListener('data', parse as never);
      conn.on('data', (data) => {
        const [action, delaySeconds] = verdict;
        if (action === 'allow') parse(data);
        else if (action === 'delay') refuse(conn, data, delaySeconds);
      });
    }
    conn.once('close', () => limiter.removePeer(peer.key));
  });
}

/** Notifies the sender of a dropped event or CONNECT. */
function refuse(conn: Connection, data: unknown, delaySeconds: number): void {
  const [, type, , path] = headOf(data);
  const namespace = path === undefined ? '' : `${path},`;
  // If a client does not read, replies to dropped packets must not fill the server's memory.
  if (!conn.transport.writable) return;
  if (type === '0') conn.write(`4${namespace}{"message":"rate limit exceeded"}`);
  const event = ['rate-limited', { delaySeconds }];
  if (type === '2' || type === '5') conn.write(`2${namespace}${JSON.stringify(event)}`);
}

/** Empty for an attachment. */
function headOf(data: unknown): (string | undefined)[] {
  return (typeof data === 'string' ? HEAD.exec(data) : null) ?? [];
}

function keyOf(request: IncomingMessage): string {
  const address = addressOf(request);
  return address === undefined ? connectionKey(request.socket) : addressKey(address);
}
