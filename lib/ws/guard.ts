// Guards a server of the ws package: refuses connections before they are upgraded, and stands between
// each WebSocket and the listeners of its messages. Guarantees that its user's own verifyClient is still
// asked, and that `close` leaves the server as it was.

import type { IncomingMessage } from 'node:http';
import type { ServerOptions, VerifyClientCallbackAsync, WebSocket, WebSocketServer } from 'ws';
import { addressResolver, type ClientAddressOptions } from '../address/client-address.js';
import { connectionKey } from '../address/connection-key.js';
import { refused } from '../errors.js';
import type { Refusal } from '../guard/door.js';
import { override } from '../guard/override.js';
import { ServerGuard } from '../guard/server-guard.js';
import { GUARD_OPTIONS, readSettings } from '../guard/settings.js';
import { safely, surface } from '../guard/surface.js';
import { type Decision, PASSED, said } from '../guard/verdicts.js';
import { type Belonging, type Visitor, visitor } from '../guard/visitor.js';
import { readOptions } from '../options.js';
import type { WebSocketGuardOptions, WebSocketSettings } from './options.js';
import { GuardedSocket } from './socket.js';

export interface WebSocketGuard {
  /**
   * Closes a connection for breaking rules of your own, code 1008: counts it among the expulsions of its
   * address, delivers no more of its messages, and cuts it where it does not answer. False where it is not
   * guarded, or closed already. The reason is cut to the 123 bytes that a close takes.
   */
  expel(socket: WebSocket, reason?: string): boolean;
  /** How many connections are guarded now. */
  readonly connections: number;
  /** Takes the guard off: nothing is limited from now on, and what waits passes. The server stays open. */
  close(): void;
}

type VerifyClient = NonNullable<ServerOptions['verifyClient']>;
type Answer = Parameters<VerifyClientCallbackAsync>[1];

/** Seconds of the longest Retry-After: what lasts longer is worth another question. */
const LONGEST_RETRY = 3600;

/**
 * Limits the connections and messages of a `WebSocketServer`, in each of its modes, from the next
 * connection on. What a limit refuses no listener gets to see, however and whenever it was added.
 * @throws `ERR_LIMITER_OPTION`
 */
export function guardWebSocketServer(
  server: WebSocketServer,
  options?: WebSocketGuardOptions,
): WebSocketGuard {
  if (typeof (server as Partial<WebSocketServer> | null)?.handleUpgrade !== 'function') {
    throw refused(
      'ERR_LIMITER_OPTION',
      'the server',
      server,
      "a WebSocketServer of the package 'ws'",
    );
  }
  const given = readOptions('guardWebSocketServer', options, ['trustedProxies', ...GUARD_OPTIONS]);
  const { trustedProxies } = given as ClientAddressOptions;
  return new Guard(server, readSettings(given), addressResolver({ trustedProxies }));
}

class Guard extends ServerGuard<WebSocket> implements WebSocketGuard {
  readonly #settings: WebSocketSettings;
  readonly #resolve: (request: IncomingMessage) => string | undefined;
  /** Those that the door has let in. */
  readonly #visitors = new WeakMap<IncomingMessage, Visitor>();

  constructor(
    server: WebSocketServer,
    settings: WebSocketSettings,
    resolve: (request: IncomingMessage) => string | undefined,
  ) {
    super(settings);
    this.#settings = settings;
    this.#resolve = resolve;
    const { verifyClient } = server.options;
    const handleUpgrade = server.handleUpgrade;
    this.hooked([
      override(server.options, 'verifyClient', (info: { req: IncomingMessage }, answer: Answer) => {
        if (this.#admit(info.req, answer)) verifyBy(verifyClient, info, answer);
      }),
      // Its callback is the first to see a WebSocket, in every mode.
      override(server, 'handleUpgrade', (request, socket, head, callback) => {
        handleUpgrade.call(server, request, socket, head, (client, upgraded) => {
          if (this.#attach(client, upgraded)) callback(client, upgraded);
        });
      }),
    ]);
  }

  /** Whether the door lets a request in; if not, it is answered here. */
  #admit(request: IncomingMessage, answer: Answer): boolean {
    // A socket that is gone has no 'close' to wait for; ws lets it go.
    if (this.isClosed || request.socket.destroyed) return true;
    try {
      const guest = visitor(this.#resolve(request), this.#settings.subnets, request.socket);
      const refusal = this.enter(guest, request.socket);
      if (refusal === undefined) this.#visitors.set(request, guest);
      else this.#refuse(guest, request, refusal, answer);
      return refusal === undefined;
    } catch (error) {
      surface(error);
      answer(false, 503, 'Service Unavailable');
      return false;
    }
  }

  #refuse(guest: Visitor, request: IncomingMessage, refusal: Refusal, answer: Answer): void {
    const { reason, verdict } = refusal;
    const seconds = Math.ceil(Math.min(Math.max(1, verdict[1]), LONGEST_RETRY));
    answer(false, 429, 'Too Many Requests', {
      'Content-Type': 'text/plain',
      'Retry-After': String(seconds),
    });
    const decision = { did: 'refused', reason, ...said(verdict) } as const;
    this.#tell(guest, request, guest.key, undefined, decision);
  }

  /** Whether its user may have it. */
  #attach(client: WebSocket, request: IncomingMessage): boolean {
    const guest = this.#visitors.get(request);
    if (this.isClosed || guest === undefined) return true;
    const make = (belonging: Belonging) =>
      new GuardedSocket(client, request, this.#settings, belonging);
    if (!this.guard(client, guest, make)) {
      client.on('error', () => {});
      client.close(1011, 'internal error');
      return false;
    }
    this.#tell(guest, request, connectionKey(client), client, PASSED);
    return true;
  }

  #tell(
    { address }: Visitor,
    request: IncomingMessage,
    key: string,
    socket: WebSocket | undefined,
    decision: Decision,
  ): void {
    const { onVerdict } = this.#settings;
    if (onVerdict === undefined) return;
    const about = { kind: 'connection', key, address, socket, data: undefined, request } as const;
    safely(() => onVerdict({ ...about, ...decision }));
  }
}

/** What ws does with the user's verifyClient. */
function verifyBy(theirs: VerifyClient | null | undefined, info: object, answer: Answer): void {
  if (!theirs) answer(true);
  else if (theirs.length === 2) (theirs as (info: object, answer: Answer) => void)(info, answer);
  else answer(Boolean((theirs as (info: object) => boolean)(info)), 401);
}
