// Honest peers. Each sends public messages and private messages to one neighbour at a steady rate, and requests the order
// book as often as allowed. They count expected and received messages.

import { verify } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { ORDERBOOK_INTERVAL } from '../guard.js';
import { ORDERBOOK_REQUEST, type RelayMessage } from '../protocol.js';
import { honestAddress, SHARED_ADDRESS } from './addresses.js';
import { Client, Refused } from './client.js';
import type { HonestProgress, HonestReport, Latency, LoadConfig, Newcomer } from './messages.js';

/** Milliseconds between two messages of a peer. */
const PUBLIC_EVERY = 300;
const PRIVATE_EVERY = 1000;
/** Milliseconds that the relay has at the end to deliver all messages; later ones count as lost. */
const CATCH_UP = 4000;

const NICK = 'honest_';

class Ledger {
  publicSent = 0;
  publicGot = 0;
  privateSent = 0;
  privateGot = 0;
  asked = 0;
  answered = 0;
  /** Messages of peers that are not honest. */
  spam = 0;
  readonly deliveries: { at: number; took: number }[] = [];

  delivered(sentAt: number): void {
    const at = performance.now();
    this.deliveries.push({ at, took: at - sentAt });
  }

  latency(since = 0): Latency {
    const recent = this.deliveries.filter(({ at }) => at >= since);
    return latencyOf(recent.map(({ took }) => took));
  }
}

class HonestPeer {
  readonly client: Client;
  readonly #nick: string;
  readonly #neighbour: string;
  readonly #ledger: Ledger;
  #publicKey = '';
  #timers: NodeJS.Timeout[] = [];
  #stopped = false;

  constructor(client: Client, index: number, neighbour: number, ledger: Ledger) {
    this.client = client;
    this.#nick = NICK + index;
    this.#neighbour = NICK + neighbour;
    this.#ledger = ledger;
  }

  /** Sends `hello`; resolves when the relay has sent `welcome`. */
  hello(): Promise<void> {
    return new Promise((resolve) => {
      this.client.onMessage((message) => {
        if (message.type === 'welcome') {
          this.#publicKey = message.publicKey;
          resolve();
        } else {
          this.#read(message);
        }
      });
      this.client.send({ type: 'hello', nick: this.#nick });
    });
  }

  talk(): void {
    const ledger = this.#ledger;
    this.#timers = [
      setInterval(() => {
        ledger.publicSent++;
        this.client.send({ type: 'public', text: String(performance.now()) });
      }, PUBLIC_EVERY),
      setInterval(() => {
        ledger.privateSent++;
        const text = String(performance.now());
        this.client.send({ type: 'private', to: this.#neighbour, text });
      }, PRIVATE_EVERY),
    ];
    this.#ask();
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) clearInterval(timer);
  }

  #ask(): void {
    if (this.#stopped) return;
    this.#ledger.asked++;
    this.client.send({ type: 'public', text: ORDERBOOK_REQUEST });
  }

  #read(message: RelayMessage): void {
    const ledger = this.#ledger;
    if (message.type === 'orderbook') {
      const { book, signature } = message;
      const key = this.#publicKey;
      if (verify('sha256', Buffer.from(book), key, Buffer.from(signature, 'base64'))) {
        ledger.answered++;
      }
      // The interval begins with the answer, not with the request: then even a slow delivery causes no early request.
      setTimeout(() => this.#ask(), ORDERBOOK_INTERVAL * 1000).unref();
    } else if ('from' in message) {
      if (!message.from.startsWith(NICK)) {
        ledger.spam++;
        return;
      }
      if (message.type === 'public') ledger.publicGot++;
      else ledger.privateGot++;
      ledger.delivered(Number(message.text));
    }
  }
}

export class HonestCrowd {
  readonly #peers: HonestPeer[] = [];
  readonly #ledger = new Ledger();
  #disconnected = 0;
  /** Connects one more peer. */
  #connectNewcomer: () => Promise<Client> = () => Promise.reject(new Error('nobody has joined'));

  /** Connects all peers, one after the other. */
  async join({ port, peers, oneAddress }: LoadConfig): Promise<void> {
    const addressOf = (index: number) => (oneAddress ? SHARED_ADDRESS : honestAddress(index));
    this.#connectNewcomer = () => Client.connect(port, addressOf(peers));
    for (let index = 0; index < peers; index++) {
      const client = await connectPatiently(port, addressOf(index));
      client.socket.on('close', () => this.#disconnected++);
      const peer = new HonestPeer(client, index, (index + 1) % peers, this.#ledger);
      await peer.hello();
      this.#peers.push(peer);
    }
  }

  talk(): void {
    for (const peer of this.#peers) peer.talk();
  }

  /** Returns what has been received so far, with the latency of the last `milliseconds`. */
  progress(milliseconds: number): HonestProgress {
    const { publicGot, privateGot, spam } = this.#ledger;
    return {
      latency: this.#ledger.latency(performance.now() - milliseconds),
      received: { fromHonest: publicGot + privateGot, fromAttackers: spam },
    };
  }

  /** Stops sending, waits until every message is delivered or lost, and reports. */
  async finish(): Promise<HonestReport> {
    for (const peer of this.#peers) peer.stop();
    await Promise.race([this.#settled(), delay(CATCH_UP)]);
    const newcomer = await this.#newcomer();
    const ledger = this.#ledger;
    const others = this.#peers.length - 1;
    return {
      publicMessages: { expected: ledger.publicSent * others, got: ledger.publicGot },
      privateMessages: { expected: ledger.privateSent, got: ledger.privateGot },
      orderbooks: { expected: ledger.asked, got: ledger.answered },
      disconnected: this.#disconnected,
      newcomer,
      latency: ledger.latency(),
      spam: ledger.spam,
    };
  }

  /** Connects a new honest peer and returns whether the relay accepts it. */
  async #newcomer(): Promise<Newcomer> {
    const outcome = this.#connectNewcomer().then(
      ({ socket }): Newcomer => {
        socket.terminate();
        return 'let in';
      },
      (error): Newcomer => (error instanceof Refused ? 'refused' : 'not answered'),
    );
    return Promise.race([outcome, delay(CATCH_UP, 'not answered' as const)]);
  }

  async #settled(): Promise<void> {
    // First the relay must read all messages; then every peer must receive what the relay sent in response.
    await Promise.all(this.#peers.map((peer) => peer.client.caughtUp()));
    await Promise.all(this.#peers.map((peer) => peer.client.caughtUp()));
  }
}

/** Connects, and retries if refused: many peers of one address may exceed its limit of connections. */
async function connectPatiently(port: number, address: string): Promise<Client> {
  for (;;) {
    try {
      return await Client.connect(port, address);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      await delay(100);
    }
  }
}

/** The median and the 99th percentile of delivery times. */
function latencyOf(milliseconds: readonly number[]): Latency {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  return { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99) };
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN;
}
