// Limits for socket.io: who may connect, and the packets of each connection, whose transport may change
// from polling to WebSocket meanwhile, and whose sockets may be very many.

import type { IncomingMessage } from 'node:http';
import type { CheckResult, RateLimiter } from 'relay-limiter';
import { addressKey, addressResolver, connectionKey } from 'relay-limiter/address';
import type { Server, ServerOptions, Socket } from 'socket.io';

type Connection = Socket['conn'];

/** Of a packet as socket.io's own parser writes it: its type, how many attachments follow, its namespace. */
const HEAD = /^([0-6])(?:(\d{1,9})-)?(\/[^,]{0,100})?/;
/** Attachments that one event may bring; the connection is closed for more. */
const MOST_ATTACHMENTS = 10;
const ALLOWED: CheckResult = ['allow', 0];
const CLOSED: CheckResult = ['disconnect', 0];
const addressOf = addressResolver({ trustedProxies: 'loopback' });

/** For `new Server(http, { allowRequest: allowRequest(limiter) })`: asked for each handshake and each poll. */
export function allowRequest(limiter: RateLimiter): NonNullable<ServerOptions['allowRequest']> {
  return (request, answer) => {
    // A poll of a connection that is open has its id; the packets it brings are limited below.
    if (new URL(request.url ?? '', 'http://a').searchParams.has('sid')) return answer(null, true);
    const [action] = limiter.check(keyOf(request));
    answer(action === 'allow' ? null : 'rate limit exceeded', action === 'allow');
  };
}

/**
 * Counts all packets of a connection, of whatever kind, namespace and transport: events, acknowledgements, namespaces that
 * are not there, heartbeats. Drops those beyond the limit before they are parsed, says so to their sender, and closes
 * the connection of who goes on.
 */
export function limitPackets(io: Server, limiter: RateLimiter): void {
  io.engine.on('connection', (conn: Connection) => {
    const peer = limiter.open(connectionKey(conn));
    let verdict = ALLOWED;
    let attachments = 0;
    const count = (data?: unknown) => {
      const [, type, others = '0'] = headOf(data);
      // A DISCONNECT ends what a CONNECT has begun, which was counted.
      if (type === '1') {
        verdict = ALLOWED;
        return;
      }
      const checked = peer.check();
      if (checked[0] === 'disconnect') conn.close(true);
      // Attachments come right after their packet, and pass if it did.
      attachments -= 1;
      const isAttachment = attachments >= 0 && typeof data !== 'string';
      if (isAttachment && checked[0] !== 'disconnect') return;
      verdict = Number(others) > MOST_ATTACHMENTS ? CLOSED : checked;
      attachments = verdict === CLOSED ? 0 : Number(others);
      if (verdict === CLOSED) conn.close(true);
    };
    // Before 'data', which is of those packets that are messages.
    conn.on('packet', ({ data }) => count(data));
    // Each probe of another transport is answered.
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

/** Tells the sender of an event or of a CONNECT. */
function refuse(conn: Connection, data: unknown, delaySeconds: number): void {
  const [, type, , path] = headOf(data);
  const namespace = path === undefined ? '' : `${path},`;
  // An answer to each must not fill the memory for who does not read.
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
