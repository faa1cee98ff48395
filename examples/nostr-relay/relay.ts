// A Nostr relay: NIP-01, with the document of NIP-11. Each connection, message, query and event is one check of its limits.

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Cost, Keys, RulePeer, RuleVerdict } from 'relay-limiter';
import { addressResolver, type ClientAddressOptions, connectionKey } from 'relay-limiter/address';
import { type RawData, type VerifyClientCallbackAsync, WebSocket, WebSocketServer } from 'ws';
import { machineSeconds } from '../fleet/messages.js';
import type { LogAdmission } from './admissions.js';
import { actionOf, type RelayLimits } from './limits.js';
import {
  type Filter,
  Invalid,
  MAX_AHEAD,
  MAX_FILTERS,
  MAX_MESSAGE,
  MAX_SUBSCRIPTION_ID,
  matches,
  type NostrEvent,
  parse,
  type RelayMessage,
} from './protocol.js';
import { EventStore, MAX_LIMIT } from './store.js';

const HOST = '127.0.0.1';
const MAX_SUBSCRIPTIONS = 20;
/** Bytes that wait for a slow reader. Beyond that it misses messages. */
const MAX_BACKLOG = 1_000_000;
const CLOSE_GRACE_MS = 1000;

export interface RelayOptions {
  readonly port: number;
  readonly limits: RelayLimits;
  readonly trustedProxies?: ClientAddressOptions['trustedProxies'];
  /** Called with each verdict that refuses something. */
  readonly onRefusal?: (verdict: RuleVerdict) => void;
  /** Called with each check that was admitted, before it has any effect. */
  readonly onAdmission?: LogAdmission | undefined;
  /** Events that the relay has from the beginning, oldest first. */
  readonly stored?: readonly NostrEvent[];
  /** Called with each event that a client of this process has published, before the client gets its reply. */
  readonly onEvent?: (event: NostrEvent) => void;
}

/** What a check counts: the arguments of its limiter. */
interface Counted {
  readonly keys: Keys;
  readonly cost: Cost;
  readonly action: string;
}

interface Connection {
  readonly socket: WebSocket;
  readonly peer: RulePeer;
  readonly subscriptions: Map<string, readonly Filter[]>;
  /** The rules of which the client has been warned. */
  readonly warned: Set<string>;
}

export class NostrRelay {
  readonly #limits: RelayLimits;
  readonly #onRefusal: (verdict: RuleVerdict) => void;
  readonly #onAdmission: LogAdmission | undefined;
  readonly #onEvent: (event: NostrEvent) => void;
  readonly #addressOf: (request: IncomingMessage) => string | undefined;
  readonly #http: Server;
  readonly #sockets: WebSocketServer;
  readonly #connections = new Set<Connection>();
  readonly #store = new EventStore();

  private constructor(options: RelayOptions) {
    const { limits, trustedProxies, onRefusal = () => {}, onEvent = () => {} } = options;
    this.#limits = limits;
    this.#onRefusal = onRefusal;
    this.#onAdmission = options.onAdmission;
    this.#onEvent = onEvent;
    for (const event of options.stored ?? []) this.#store.add(event);
    this.#addressOf = addressResolver({ trustedProxies });
    this.#http = createServer((request, response) => this.#answer(request, response));
    this.#sockets = new WebSocketServer({
      server: this.#http,
      maxPayload: MAX_MESSAGE,
      verifyClient: (info, accept) => this.#verify(info.req, accept),
    });
    this.#sockets.on('connection', (socket, request) => this.#accept(socket, request));
  }

  /** Listens on a port of 127.0.0.1, 0 for a free one. Rejects if the port is unavailable. */
  static async listen(options: RelayOptions): Promise<NostrRelay> {
    const relay = new NostrRelay(options);
    // The WebSocket server re-emits the errors of its HTTP server.
    relay.#sockets.on('error', () => relay.close());
    relay.#http.listen(options.port, HOST);
    await once(relay.#http, 'listening');
    return relay;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  close(): void {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#sockets.close();
    this.#http.close();
    this.#http.closeAllConnections();
  }

  /** Accepts a connection, or refuses it with 403 or 429. */
  #verify(request: IncomingMessage, accept: Parameters<VerifyClientCallbackAsync>[1]): void {
    const address = this.#addressOf(request);
    const counted = { keys: { address }, cost: 1, action: 'connect' };
    const verdict = this.#check(counted, ({ keys, cost, action }) =>
      this.#limits.limiter.check(keys, cost, action),
    );
    const { outcome, delaySeconds } = verdict;
    const seconds = Math.min(Math.ceil(delaySeconds), 86_400);
    if (outcome === 'allow') accept(true);
    else if (outcome === 'denied') accept(false, 403, reasonOf(verdict));
    else accept(false, 429, reasonOf(verdict), { 'Retry-After': String(seconds) });
  }

  #accept(socket: WebSocket, request: IncomingMessage): void {
    const keys = { connection: connectionKey(socket), address: this.#addressOf(request) };
    const connection: Connection = {
      socket,
      peer: this.#limits.limiter.open(keys),
      subscriptions: new Map(),
      warned: new Set(),
    };
    this.#connections.add(connection);
    socket.on('message', (data, isBinary) => this.#receive(connection, data, isBinary));
    // Errors of invalid frames and lost connections need no handling: `close` follows.
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#connections.delete(connection);
      // Not the address: that would forget its violations and lift its ban.
      this.#limits.limiter.removePeer({ connection: keys.connection });
    });
  }

  /** Counts a message before it is parsed, then handles it. */
  #receive(connection: Connection, data: RawData, isBinary: boolean): void {
    if (connection.socket.readyState !== WebSocket.OPEN) return;
    // By default ws gives a message as one Buffer.
    const cost = { requests: 1, bytes: (data as Buffer).length };
    const verdict = this.#checkPeer(connection.peer, cost, 'message');
    if (!this.#obey(connection, verdict, (reason) => ['NOTICE', reason])) return;
    try {
      const message = parse(data, isBinary);
      if (message.verb === 'EVENT') this.#publish(connection, message.event);
      else if (message.verb === 'REQ') this.#subscribe(connection, message.id, message.filters);
      else connection.subscriptions.delete(message.id);
    } catch (error) {
      if (!(error instanceof Invalid)) throw error;
      send(connection.socket, error.reply);
    }
  }

  #publish(connection: Connection, event: NostrEvent): void {
    const { socket, peer } = connection;
    const { id, pubkey, kind } = event;
    // A repeated event is not charged to its author, because anybody can send it.
    if (!this.#store.has(id)) {
      const keys = { ...peer.keys, account: pubkey };
      const counted = { keys, cost: 1, action: actionOf(kind) };
      const verdict = this.#check(counted, ({ action }) =>
        this.#limits.checkEvent(peer.keys, pubkey, action),
      );
      if (!this.#obey(connection, verdict, (reason) => ['OK', id, false, reason])) return;
      if (this.#store.add(event)) {
        this.#onEvent(event);
        send(socket, ['OK', id, true, '']);
        this.#forward(event);
        return;
      }
    }
    send(socket, ['OK', id, true, 'duplicate: the relay has this event or a later version']);
  }

  /** Stores and forwards an event that another process has admitted. */
  receive(event: NostrEvent): void {
    if (!this.#store.has(event.id) && this.#store.add(event)) this.#forward(event);
  }

  #forward(event: NostrEvent): void {
    for (const { socket, subscriptions } of this.#connections) {
      for (const [id, filters] of subscriptions) {
        if (filters.some((filter) => matches(event, filter))) send(socket, ['EVENT', id, event]);
      }
    }
  }

  /** Each filter costs one search of all events. */
  #subscribe(connection: Connection, id: string, filters: readonly Filter[]): void {
    const { socket, peer, subscriptions } = connection;
    const verdict = this.#checkPeer(peer, filters.length, 'req');
    if (!this.#obey(connection, verdict, (reason) => ['CLOSED', id, reason])) return;
    if (subscriptions.size >= MAX_SUBSCRIPTIONS && !subscriptions.has(id)) {
      send(socket, ['CLOSED', id, `error: more than ${MAX_SUBSCRIPTIONS} subscriptions`]);
      return;
    }
    for (const event of this.#store.query(filters)) send(socket, ['EVENT', id, event]);
    send(socket, ['EOSE', id]);
    subscriptions.set(id, filters);
  }

  #checkPeer(peer: RulePeer, cost: Cost, action: string): RuleVerdict {
    return this.#check({ keys: peer.keys, cost, action }, () => peer.check(cost, action));
  }

  /** Reports the verdict of each check. */
  #check(counted: Counted, check: (counted: Counted) => RuleVerdict): RuleVerdict {
    const from = machineSeconds();
    const verdict = check(counted);
    if (verdict.outcome !== 'allow') this.#onRefusal(verdict);
    else this.#onAdmission?.({ ...counted, from, at: machineSeconds() });
    return verdict;
  }

  /** Returns true if the verdict allows; otherwise replies, and closes the connection of a banned or denied address. */
  #obey(
    { socket, warned }: Connection,
    verdict: RuleVerdict,
    replyTo: (reason: string) => RelayMessage,
  ): boolean {
    const { outcome, scope, warning } = verdict;
    if (outcome === 'allow') {
      if (warning !== null && !warned.has(warning)) {
        warned.add(warning);
        send(socket, ['NOTICE', `rate-limited: "${warning}" is nearly used up`]);
      }
      return true;
    }
    const reason = reasonOf(verdict);
    send(socket, replyTo(reason));
    if (outcome !== 'delay' && scope !== 'account') {
      socket.close(1008, reason);
      setTimeout(() => socket.terminate(), CLOSE_GRACE_MS).unref();
    }
    return false;
  }

  /** Answers requests that are no WebSocket: with the document of NIP-11, to clients that accept it. */
  #answer({ method, headers }: IncomingMessage, response: ServerResponse): void {
    response.setHeader('Access-Control-Allow-Origin', '*');
    response.setHeader('Access-Control-Allow-Headers', '*');
    response.setHeader('Access-Control-Allow-Methods', 'GET');
    if (method === 'OPTIONS') {
      response.writeHead(204).end();
    } else if (headers.accept?.includes('application/nostr+json')) {
      response.setHeader('Content-Type', 'application/nostr+json');
      response.end(JSON.stringify(this.#document()));
    } else {
      response.writeHead(426).end('a Nostr relay, for WebSocket clients\n');
    }
  }

  /** NIP-11 has no fields for rates, and clients ignore fields that they do not know. */
  #document(): object {
    const rules = Object.entries(this.#limits.rules).filter(([, { dryRun }]) => !dryRun);
    return {
      name: 'relay-limiter example',
      description: 'A relay with the limits of a public one. It keeps its events in memory.',
      supported_nips: [1, 11],
      limitation: {
        max_message_length: MAX_MESSAGE,
        max_subscriptions: MAX_SUBSCRIPTIONS,
        max_filters: MAX_FILTERS,
        max_limit: MAX_LIMIT,
        max_subid_length: MAX_SUBSCRIPTION_ID,
        created_at_upper_limit: MAX_AHEAD,
      },
      rate_limits: Object.fromEntries(rules),
    };
  }
}

function send(socket: WebSocket, message: RelayMessage): void {
  if (socket.bufferedAmount < MAX_BACKLOG) socket.send(JSON.stringify(message));
}

/** A refusal in the words of NIP-01. */
function reasonOf({ outcome, delaySeconds, rule }: RuleVerdict): string {
  if (outcome === 'denied') return 'blocked: not welcome here';
  const wait =
    delaySeconds === Infinity ? 'do not try again' : `try again in ${Math.ceil(delaySeconds)} s`;
  if (outcome === 'banned') return `blocked: banned, ${wait}`;
  return `rate-limited: ${rule ?? 'the relay is full'}, ${wait}`;
}
