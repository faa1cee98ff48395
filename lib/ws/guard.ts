// Guards a server of the ws package: refuses connections before they are upgraded, and stands between
// each WebSocket and the listeners of its messages. Guarantees that its user's own verifyClient is still
// asked, and that `close` leaves the server as it was.

import type { IncomingMessage } from 'node:http';
import type { ServerOptions, VerifyClientCallbackAsync, WebSocket, WebSocketServer } from 'ws';
import { addressResolver, type ClientAddressOptions } from '../address/client-address.js';
import { connectionKey } from '../address/connection-key.js';
import { attempt } from '../common/callbacks.js';
import { refused } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { readOptions } from '../common/options.js';
import { type Refusal, UNKNOWN } from '../guard/door.js';
import { warnOfProxy } from '../guard/misuse.js';
import { override } from '../guard/override.js';
import { mostBytes } from '../guard/rules.js';
import { ServerGuard } from '../guard/server-guard.js';
import { GUARD_OPTIONS, readSettings } from '../guard/settings.js';
import { type Decision, FAILED, PASSED, said } from '../guard/verdicts.js';
import { type Belonging, type Visitor, visitor } from '../guard/visitor.js';
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
 *
 * Set the server's `maxPayload`: a message counts when it is whole. Where it is above the burst of a rule by bytes the
 * guard lowers it to that, with the process warning `WARN_LIMITER_MAX_PAYLOAD`. Behind a proxy set `trustedProxies`.
 * @example
 * const server = new WebSocketServer({ port: 8080, maxPayload: 65_536 });
 * guardWebSocketServer(server, { messages: { limiter: new RateLimiter() }, onDelay: 'pause' });
 * @throws `ERR_LIMITER_OPTION`
 */
export function guardWebSocketServer(
  server: WebSocketServer,
  options?: WebSocketGuardOptions,
): WebSocketGuard {
  if (!hasMethods(server, 'handleUpgrade')) {
    throw refused(
      'ERR_LIMITER_OPTION',
      'the server',
      server,
      "a WebSocketServer of the package 'ws'",
    );
  }
  const given = readOptions('guardWebSocketServer', options, ['trustedProxies', ...GUARD_OPTIONS]);
  const { trustedProxies } = given as ClientAddressOptions;
  const settings: WebSocketSettings = readSettings(given);
  const resolve = addressResolver({ trustedProxies });
  if (trustedProxies !== undefined || !settings.limitsAddresses) {
    return new Guard(server, settings, resolve);
  }
  return new Guard(server, settings, (request) => {
    warnOfProxy(request, settings.warn);
    return resolve(request);
  });
}

class Guard extends ServerGuard<WebSocket> implements WebSocketGuard {
  readonly #settings: WebSocketSettings;
  readonly #resolve: (request: IncomingMessage) => string | undefined;

  constructor(
    server: WebSocketServer,
    settings: WebSocketSettings,
    resolve: (request: IncomingMessage) => string | undefined,
  ) {
    super(settings);
    this.#settings = settings;
    this.#resolve = resolve;
    const { handleUpgrade } = server;
    // Its callback is the first to see a WebSocket, in every mode.
    const guarded: typeof handleUpgrade = (request, socket, head, callback) => {
      let guest: Visitor | undefined;
      const upgraded = (client: WebSocket, request: IncomingMessage) => {
        if (guest === undefined || this.#attach(client, request, guest)) callback(client, request);
      };
      // ws looks for it before it returns: no other than this door can have been put there meanwhile.
      const { options } = server;
      const theirs = options.verifyClient;
      options.verifyClient = (info: { req: IncomingMessage }, answer: Answer) => {
        // A socket that is gone has no 'close' to wait for; ws lets it go.
        const isAsked = !this.isClosed && !request.socket.destroyed;
        if (isAsked) guest = this.#admit(request, answer);
        if (!isAsked || guest !== undefined) verifyBy(theirs, info, answer);
      };
      try {
        handleUpgrade.call(server, request, socket, head, upgraded);
      } finally {
        options.verifyClient = theirs;
      }
    };
    this.hooked([override(server, 'handleUpgrade', guarded), boundPayload(server, settings)]);
  }

  /** Whom the door lets in; whom not is answered here. */
  #admit(request: IncomingMessage, answer: Answer): Visitor | undefined {
    const { subnets } = this.#settings;
    try {
      const guest = visitor(this.#resolve(request), subnets, request.socket);
      const refusal = this.enter(guest, request.socket);
      if (refusal === undefined) return guest;
      const seconds = Math.ceil(Math.min(Math.max(1, refusal.verdict[1]), LONGEST_RETRY));
      answer(false, 429, 'Too Many Requests', {
        'Content-Type': 'text/plain',
        'Retry-After': String(seconds),
      });
      this.#refused(guest, request, refusal);
    } catch (error) {
      this.#failed(error, undefined, request);
      answer(false, 503, 'Service Unavailable');
      this.#refused(visitor(undefined, subnets, request.socket), request, UNKNOWN);
    }
    return undefined;
  }

  #refused(guest: Visitor, request: IncomingMessage, { reason, verdict }: Refusal): void {
    const decision = { did: 'refused', reason, ...said(verdict) } as const;
    this.#tell(guest, request, guest.key, undefined, decision);
  }

  /** Whether its user may have it. */
  #attach(client: WebSocket, request: IncomingMessage, guest: Visitor): boolean {
    if (this.isClosed) return true;
    const make = (belonging: Belonging) =>
      new GuardedSocket(client, request, this.#settings, belonging);
    const failed = (error: unknown) => this.#failed(error, client, request);
    const isGuarded = this.guard(client, guest, failed, make);
    if (!isGuarded) {
      client.on('error', () => {});
      client.close(1011, 'internal error');
    }
    this.#tell(guest, request, connectionKey(client), client, isGuarded ? PASSED : FAILED);
    return isGuarded;
  }

  #failed(error: unknown, socket: WebSocket | undefined, request: IncomingMessage): void {
    this.#settings.onError(error, { socket, request });
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
    const failed = (error: unknown) => this.#failed(error, socket, request);
    attempt(() => onVerdict({ ...about, ...decision }), failed);
  }
}

/**
 * A message counts when it is whole; until then ws keeps what has come of it, as much as its `maxPayload`. What is
 * above the burst of a rule by bytes would never pass, so ws closes for it as soon as its length is known.
 */
function boundPayload(
  { options }: WebSocketServer,
  { rules, warn }: WebSocketSettings,
): () => void {
  const most = mostBytes(rules);
  const given = options.maxPayload || Infinity;
  // ws knows lengths of 31 bits.
  if (given <= most || most >= 2 ** 31) return () => {};
  warn('WARN_LIMITER_MAX_PAYLOAD', `at most ${most}, got ${given}`);
  return override(options, 'maxPayload', most);
}

/** What ws does with the user's verifyClient. */
function verifyBy(theirs: VerifyClient | null | undefined, info: object, answer: Answer): void {
  if (!theirs) answer(true);
  else if (theirs.length === 2) (theirs as (info: object, answer: Answer) => void)(info, answer);
  else answer(Boolean((theirs as (info: object) => boolean)(info)), 401);
}
