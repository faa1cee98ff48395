// Three attackers. A tick bounds their rate, and a send buffer their backlog. An expelled attacker reconnects, from another
// address if its own is banned, so that the attack lasts until its end.

import type { ClientMessage } from '../protocol.js';
import { attackerAddress, SHARED_ADDRESS } from './addresses.js';
import { Client, Refused } from './client.js';
import type { AttackReport, LoadConfig } from './messages.js';

/** Milliseconds between two bursts. */
const TICK = 20;
/** Milliseconds before an attacker tries again to connect. */
const RECONNECT_AFTER = 100;
/** Consecutive refusals after which an attacker tries another address. */
const GIVES_UP_AFTER = 5;
/** Milliseconds after which a connected attacker counts as not expelled. */
const LONG_CONNECTION = 3000;
/** Unsent bytes above which an attacker stops sending. */
const MAX_BACKLOG = 1 << 18;

const POLICY_VIOLATION = 1008;
const SPAM = 'spam '.repeat(200);

interface Attack {
  readonly name: string;
  /** Returns the messages of one tick. `serial` returns a new number on each call. */
  readonly burst: (serial: () => number) => ClientMessage[];
}

const ATTACKS: readonly Attack[] = [
  {
    name: 'flooder',
    burst: () => repeat(150, () => ({ type: 'public', text: SPAM })),
  },
  {
    name: 'nick rotator',
    burst: (serial) =>
      repeat(20, (): ClientMessage[] => [
        { type: 'nick', nick: `rotating_${serial()}` },
        { type: 'public', text: '!orderbook' },
      ]).flat(),
  },
  {
    name: 'spammer',
    burst: () => repeat(20, () => ({ type: 'public', text: SPAM })),
  },
];

export class Attacker {
  readonly #attack: Attack;
  readonly #port: number;
  readonly #address: (turn: number) => string;
  readonly #report: AttackReport;
  readonly #startedAt = performance.now();
  readonly #addresses = new Set<string>();
  #turn = 0;
  #serial = 0;
  #client: Client | undefined;
  #connectedAt = 0;
  #refusedInARow = 0;
  #stopped = false;

  constructor(attack: Attack, port: number, address: (turn: number) => string) {
    this.#attack = attack;
    this.#port = port;
    this.#address = address;
    this.#report = {
      name: attack.name,
      accepted: 0,
      expelled: 0,
      reason: '',
      expelledAfter: 0,
      refused: 0,
      addresses: 0,
      connected: false,
    };
    this.#connect();
  }

  finish(): AttackReport {
    const stayed = performance.now() - this.#connectedAt;
    const report = {
      ...this.#report,
      addresses: this.#addresses.size,
      connected: this.#client !== undefined && stayed > LONG_CONNECTION,
    };
    this.#stopped = true;
    this.#client?.socket.terminate();
    return report;
  }

  #connect(): void {
    if (this.#stopped) return;
    const address = this.#address(this.#turn);
    this.#addresses.add(address);
    Client.connect(this.#port, address).then(
      (client) => this.#begin(client),
      (error: unknown) => {
        if (error instanceof Refused) this.#refused();
        this.#connectAgain();
      },
    );
  }

  #connectAgain(): void {
    setTimeout(() => this.#connect(), RECONNECT_AFTER);
  }

  #refused(): void {
    this.#report.refused++;
    this.#refusedInARow++;
    if (this.#refusedInARow < GIVES_UP_AFTER) return;
    this.#refusedInARow = 0;
    // If there is only one address, the attacker uses the same one again.
    this.#turn++;
  }

  #begin(client: Client): void {
    this.#client = client;
    this.#connectedAt = performance.now();
    this.#refusedInARow = 0;
    this.#report.accepted++;
    client.send({ type: 'hello', nick: `attacker_${this.#attack.name.slice(0, 3)}` });
    const timer = setInterval(() => this.#send(client), TICK);
    client.socket.on('close', (code, reason) => {
      clearInterval(timer);
      this.#client = undefined;
      if (code === POLICY_VIOLATION) this.#expelled(reason.toString());
      this.#connectAgain();
    });
  }

  #send(client: Client): void {
    if (client.socket.bufferedAmount > MAX_BACKLOG) return;
    for (const message of this.#attack.burst(() => this.#serial++)) {
      client.send(message);
    }
  }

  #expelled(reason: string): void {
    this.#report.expelled++;
    this.#report.reason = reason;
    this.#report.expelledAfter = (performance.now() - this.#startedAt) / 1000;
  }
}

export function attack({ port, oneAddress }: LoadConfig): Attacker[] {
  return ATTACKS.map((attack, index) => {
    const address = (turn: number) => (oneAddress ? SHARED_ADDRESS : attackerAddress(index, turn));
    return new Attacker(attack, port, address);
  });
}

function repeat<T>(times: number, make: () => T): T[] {
  return Array.from({ length: times }, make);
}
