// The messages between the processes of the demo.

import type { LimiterOptions } from 'relay-limiter';
import type { RelayCounts } from '../relay.js';

/** Undefined: the value of RELAY_LIMITER_ENGINE, or auto. */
export type Engine = LimiterOptions['engine'];

/** From the demo to its load generators. */
export type Command = { kind: 'go' } | { kind: 'stop' };

/** From a child that has failed: it ends after this message. */
export type Failure = { kind: 'failed'; why: string };

export interface RelayConfig {
  port: number;
  guarded: boolean;
  engine: Engine;
  dashboardPort: number;
}

export type FromRelay =
  | { kind: 'listening'; port: number; engine: string; dashboard: string | undefined }
  | { kind: 'counts'; counts: RelayCounts }
  | Failure;

export interface LoadConfig {
  port: number;
  peers: number;
  /** All peers connect from 127.0.0.1, instead of from different addresses. */
  oneAddress: boolean;
}

export type FromHonest =
  | { kind: 'ready' }
  | { kind: 'progress'; progress: HonestProgress }
  | { kind: 'report'; report: HonestReport }
  | Failure;

export type FromAttackers =
  | { kind: 'ready' }
  | { kind: 'report'; report: AttackReport[] }
  | Failure;

/** Milliseconds from sending to delivery; NaN if nothing was delivered. */
export interface Latency {
  p50: number;
  p99: number;
}

/** What honest peers have received so far, and the latency of the last second. */
export interface HonestProgress {
  latency: Latency;
  received: Received;
}

/** Messages that honest peers received. */
export interface Received {
  fromHonest: number;
  fromAttackers: number;
}

/** The expected number and the received number. */
export interface Tally {
  expected: number;
  got: number;
}

export interface HonestReport {
  publicMessages: Tally;
  privateMessages: Tally;
  /** Answers with a valid signature. */
  orderbooks: Tally;
  /** Honest peers that lost their connection. */
  disconnected: number;
  /** The result for one more honest peer that connected after the attack. */
  newcomer: Newcomer;
  latency: Latency;
  /** Messages of attackers that honest peers received. */
  spam: number;
}

export type Newcomer = 'let in' | 'refused' | 'not answered';

export interface AttackReport {
  name: string;
  /** Connections the relay accepted. */
  accepted: number;
  /** Connections the relay closed with code 1008, and the reason it gave last. */
  expelled: number;
  reason: string;
  /** Seconds from the start of the attack to the last time it was expelled. */
  expelledAfter: number;
  /** Connections the relay refused with status 429. */
  refused: number;
  /** The number of addresses that the attacker used. */
  addresses: number;
  /** True if the attacker was connected at the end of the attack, and for a long time. */
  connected: boolean;
}
