// The relay: accepts connections, forwards messages, and applies the guard's verdicts.

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { RateLimitAction } from 'relay-limiter';
import { guardWebSocketServer, type WebSocketGuard, type WebSocketVerdict } from 'relay-limiter/ws';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import type { Guard, GuardCounts, Verdict } from './guard.js';
import { Orderbook } from './orderbook.js';
import { encode, Peer } from './peer.js';
import {
  type ClientMessage,
  MAX_MESSAGE,
  Malformed,
  ORDERBOOK_REQUEST,
  parse,
  type RelayMessage,
} from './protocol.js';

const HOST = '127.0.0.1';
const MAX_CONNECTIONS = 1000;
/** Seconds from the connection to `hello`. */
const HELLO_TIMEOUT = 5;
const SWEEP_EVERY = 1000;

const monotonicSeconds = () => performance.now() / 1000;

/** Counts since the start; open connections, tracked peers and resident memory are present values. */
export interface RelayCounts extends GuardCounts {
  connections: number;
  messagesIn: number;
  delivered: number;
  /** Messages dropped by a limit. */
  delayed: number;
  /** Messages dropped because their receiver reads too slowly or is disconnecting. */
  missed: number;
  /** Peers expelled, with code 1008. */
  disconnected: number;
  /** Connections not accepted, with status 429. */
  refused: number;
  /** Bytes. */
  residentMemory: number;
}

export class Relay {
  readonly #guard: Guard;
  readonly #clock: () => number;
  readonly #orderbook = new Orderbook();
  readonly #http: Server = createServer((_, response) => response.writeHead(426).end());
  readonly #sockets: WebSocketServer;
  /** Limits connections and frames before the relay reads them. */
  readonly #socketGuard: WebSocketGuard;
  readonly #peers = new Map<WebSocket, Peer>();
  readonly #byNick = new Map<string, Peer>();
  readonly #sweeper: NodeJS.Timeout;
  readonly #counts = {
    messagesIn: 0,
    delivered: 0,
    delayed: 0,
    missed: 0,
    disconnected: 0,
    refused: 0,
  };

  private constructor(guard: Guard) {
    this.#guard = guard;
    this.#clock = guard.clock ?? monotonicSeconds;
    this.#http.maxConnections = MAX_CONNECTIONS;
    this.#sockets = new WebSocketServer({
      server: this.#http,
      // A message above MAX_MESSAGE gets an error; one above this limit is not read, and closes the connection (1009).
      maxPayload: 16 * MAX_MESSAGE,
    });
    const onVerdict = (verdict: WebSocketVerdict) => this.#applyVerdict(verdict);
    this.#socketGuard = guardWebSocketServer(this.#sockets, { ...guard.limits, onVerdict });
    this.#sockets.on('connection', (socket) => this.#accept(socket));
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_EVERY);
  }

  /** Listens on a port of 127.0.0.1, 0 for a free one. Rejects if the port is unavailable. */
  static async listen(port: number, guard: Guard): Promise<Relay> {
    const relay = new Relay(guard);
    // The WebSocket server re-emits the errors of its HTTP server.
    relay.#sockets.on('error', () => relay.close());
    relay.#http.listen(port, HOST);
    await once(relay.#http, 'listening');
    return relay;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  counts(): RelayCounts {
    return {
      ...this.#counts,
      ...this.#guard.counts(),
      connections: this.#peers.size,
      residentMemory: process.memoryUsage.rss(),
    };
  }

  close(): void {
    clearInterval(this.#sweeper);
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#sockets.close();
    this.#http.close();
  }

  /** Counts a verdict of the WebSocket guard. */
  #applyVerdict({ kind, did, socket }: WebSocketVerdict): void {
    if (did === 'refused') this.#counts.refused++;
    if (kind === 'connection') return;
    this.#counts.messagesIn++;
    const peer = socket && this.#peers.get(socket);
    if (peer === undefined) return;
    const reason = 'too many messages';
    if (did === 'dropped') this.#drop(peer, reason);
    else if (did === 'closed') this.#expel(peer, reason);
  }

  #accept(socket: WebSocket): void {
    const peer = new Peer(socket, this.#clock);
    this.#peers.set(socket, peer);
    socket.on('message', (data, isBinary) => this.#receive(peer, data, isBinary));
    // Errors of invalid frames and lost connections need no handling: `close` follows.
    socket.on('error', () => {});
    socket.on('close', () => this.#leave(peer));
  }

  #leave(peer: Peer): void {
    this.#peers.delete(peer.socket);
    if (peer.nick !== undefined) this.#byNick.delete(peer.nick);
    this.#guard.closed(peer.id);
  }

  #receive(peer: Peer, data: RawData, isBinary: boolean): void {
    try {
      this.#handle(peer, parse(data, isBinary));
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      this.#send(peer, { type: 'error', reason: error.message });
      this.#obey(peer, this.#guard.malformed(peer.id));
    }
  }

  #obey(peer: Peer, verdict: Verdict): boolean {
    if (verdict.action === RateLimitAction.ALLOW) return true;
    if (verdict.action === RateLimitAction.DELAY) this.#drop(peer, verdict.reason);
    else this.#expel(peer, verdict.reason);
    return false;
  }

  #drop(peer: Peer, reason: string): void {
    this.#counts.delayed++;
    peer.notify(`dropped: ${reason}`);
  }

  #expel(peer: Peer, reason: string): void {
    if (this.#socketGuard.expel(peer.socket, reason)) this.#counts.disconnected++;
  }

  #handle(peer: Peer, message: ClientMessage): void {
    const { nick } = peer;
    if (message.type === 'hello') this.#hello(peer, message.nick);
    else if (nick === undefined) throw new Malformed('say hello first');
    else if (message.type === 'nick') this.#rename(peer, message.nick);
    else if (message.type === 'private') this.#private(peer, nick, message.to, message.text);
    else if (message.text === ORDERBOOK_REQUEST) this.#answerOrderbook(peer, nick);
    else this.#public(peer, nick, message.text);
  }

  #hello(peer: Peer, nick: string): void {
    if (peer.nick !== undefined) throw new Malformed(`hello was said already, as ${peer.nick}`);
    if (!this.#assignNick(peer, nick)) return;
    this.#send(peer, { type: 'welcome', nick, publicKey: this.#orderbook.publicKey });
  }

  #rename(peer: Peer, nick: string): void {
    if (this.#assignNick(peer, nick)) this.#send(peer, { type: 'nick', nick });
  }

  /** Assigns a nick to a peer. If another peer has it, sends an error and returns false. */
  #assignNick(peer: Peer, nick: string): boolean {
    if (this.#byNick.has(nick)) {
      this.#send(peer, { type: 'error', reason: `the nick ${nick} is taken` });
      return false;
    }
    if (peer.nick !== undefined) this.#byNick.delete(peer.nick);
    peer.nick = nick;
    this.#byNick.set(nick, peer);
    return true;
  }

  #public(peer: Peer, from: string, text: string): void {
    const message = encode({ type: 'public', from, text });
    for (const receiver of this.#byNick.values()) {
      if (receiver !== peer) this.#deliver(receiver, message);
    }
  }

  #private(peer: Peer, from: string, to: string, text: string): void {
    if (!this.#obey(peer, this.#guard.privateMessage(peer.id))) return;
    const receiver = this.#byNick.get(to);
    if (receiver === undefined) {
      this.#send(peer, { type: 'error', reason: `nobody here is called ${to}` });
    } else {
      this.#deliver(receiver, encode({ type: 'private', from, text }));
    }
  }

  #answerOrderbook(peer: Peer, nick: string): void {
    if (!this.#obey(peer, this.#guard.orderbook(peer.id, nick))) return;
    this.#deliver(peer, encode({ type: 'orderbook', ...this.#orderbook.answer(nick) }));
  }

  #deliver(peer: Peer, message: Buffer): void {
    if (peer.send(message)) this.#counts.delivered++;
    else this.#counts.missed++;
  }

  #send(peer: Peer, message: RelayMessage): void {
    peer.send(encode(message));
  }

  #sweep(): void {
    this.#guard.sweep();
    const latest = this.#clock() - HELLO_TIMEOUT;
    for (const peer of this.#peers.values()) {
      if (peer.nick === undefined && peer.open && peer.connectedAt < latest) {
        this.#expel(peer, 'no hello');
      }
    }
  }
}
