// What the processes of the demo tell each other.

import type { LimiterOptions } from 'relay-limiter';
import type { RelayCounts } from '../relay.js';

/** Undefined: what RELAY_LIMITER_ENGINE says, else auto. */
export type Engine = LimiterOptions['engine'];

/** From the demo to its load generators. */
export type Command = { kind: 'go' } | { kind: 'stop' };

/** From any child that cannot do its work: it ends after this. */
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
  /** Everybody connects from 127.0.0.1, instead of each from an address of its own. */
  oneAddress: boolean;
}

export type FromHonest =
  | { kind: 'ready' }
  | { kind: 'latency'; latency: Latency }
  | { kind: 'report'; report: HonestReport }
  | Failure;

export type FromAttackers =
  | { kind: 'ready' }
  | { kind: 'report'; report: AttackReport[] }
  | Failure;

/** Milliseconds from sending to delivery; NaN where nothing was delivered. */
export interface Latency {
  p50: number;
  p99: number;
}

/** How many there should be, and how many there were. */
export interface Tally {
  expected: number;
  got: number;
}

export interface HonestReport {
  publicMessages: Tally;
  privateMessages: Tally;
  /** Answers whose signature is right. */
  orderbooks: Tally;
  /** Honest peers that lost their connection. */
  disconnected: number;
  /** What became of one more honest peer that connected when the attack was over. */
  newcomer: Newcomer;
  latency: Latency;
}

export type Newcomer = 'let in' | 'refused' | 'not answered';

export interface AttackReport {
  name: string;
  sent: number;
  /** Connections the relay accepted. */
  accepted: number;
  /** Connections the relay closed with code 1008, and the reason it gave last. */
  expelled: number;
  reason: string;
  /** Seconds from the start of the attack to the last time it was expelled. */
  expelledAfter: number;
  /** Connections the relay refused with status 429. */
  refused: number;
  /** Different addresses that it came from. */
  addresses: number;
  /** Connected, and for long, when the attack was called off. */
  connected: boolean;
}
