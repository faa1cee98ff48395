// One phase: a relay, with or without its guard, between honest peers and attackers.

import { setTimeout as delay } from 'node:timers/promises';
import type { RelayCounts } from '../relay.js';
import { Child } from './child.js';
import type {
  AttackReport,
  Engine,
  FromAttackers,
  FromHonest,
  FromRelay,
  HonestProgress,
  HonestReport,
  LoadConfig,
  RelayConfig,
} from './messages.js';

/** Milliseconds that the processes have to start and connect, and to report at the end; ample for a busy machine. */
const START_LIMIT = 60_000;
const REPORT_LIMIT = 30_000;

export interface PhaseOptions {
  guarded: boolean;
  seconds: number;
  peers: number;
  port: number;
  engine: Engine;
  oneAddress: boolean;
  dashboardPort: number;
}

/** Callbacks of a phase. */
export interface PhaseListener {
  /** Called with the URL of the guarded relay's dashboard. */
  dashboard(url: string): void;
  second(second: Second): void;
  /** Called after the attack; the relay continues to run until the promise resolves. */
  over?: ((result: PhaseResult) => Promise<void>) | undefined;
}

/** The figures at the end of a second. */
export interface Second {
  guarded: boolean;
  engine: string;
  second: number;
  /** Undefined: the relay has reported nothing within this second. */
  counts: RelayCounts | undefined;
  /** Undefined if there are no honest peers. */
  honest: HonestProgress | undefined;
}

export interface PhaseResult {
  honest: HonestReport;
  attackers: AttackReport[];
  /** The relay's peak memory, in bytes. */
  peakMemory: number;
}

/** Runs a phase. When it resolves or rejects, all its processes have ended. */
export async function runPhase(
  options: PhaseOptions,
  listener: PhaseListener,
  signal: AbortSignal,
): Promise<PhaseResult> {
  const phase = new Phase(options);
  const interrupt = () => phase.fail(signal.reason);
  signal.addEventListener('abort', interrupt);
  try {
    signal.throwIfAborted();
    const result = await phase.run(listener);
    // From here on an interruption is the normal end of the phase.
    signal.removeEventListener('abort', interrupt);
    if (listener.over !== undefined) await phase.unlessFailed(listener.over(result));
    return result;
  } finally {
    signal.removeEventListener('abort', interrupt);
    await phase.end();
  }
}

class Phase {
  readonly #options: PhaseOptions;
  readonly #children: { stop(): Promise<void> }[] = [];
  readonly #failed: Promise<never>;
  fail: (reason: unknown) => void = () => {};

  constructor(options: PhaseOptions) {
    this.#options = options;
    this.#failed = new Promise((_, reject) => {
      this.fail = reject;
    });
    // Between two steps nothing awaits `#failed`; its rejection must not count as unhandled.
    this.#failed.catch(() => {});
  }

  async run(listener: PhaseListener): Promise<PhaseResult> {
    const { guarded, engine, port, peers, oneAddress, seconds, dashboardPort } = this.#options;
    const config = { port, guarded, engine, dashboardPort };
    const relay = this.#start<FromRelay, RelayConfig>('relay', config);
    const listening = await this.#within(START_LIMIT, 'the relay', relay.next('listening'));
    if (listening.dashboard !== undefined) listener.dashboard(listening.dashboard);

    const load = { port: listening.port, peers, oneAddress };
    const honest = this.#start<FromHonest, LoadConfig>('honest', load);
    const attackers = this.#start<FromAttackers, LoadConfig>('attack', load);
    const ready = Promise.all([honest.next('ready'), attackers.next('ready')]);
    await this.#within(START_LIMIT, 'the peers to connect', ready);

    await this.#within(START_LIMIT, 'the relay', relay.next('counts'));
    const watch = new Watch(relay, honest);
    honest.tell({ kind: 'go' });
    attackers.tell({ kind: 'go' });
    for (let second = 1; second <= seconds; second++) {
      await this.unlessFailed(delay(1000, undefined, { ref: false }));
      listener.second({ guarded, engine: listening.engine, second, ...watch.latest() });
    }

    const reports = Promise.all([honest.next('report'), attackers.next('report')]);
    honest.tell({ kind: 'stop' });
    attackers.tell({ kind: 'stop' });
    const [{ report }, attack] = await this.#within(REPORT_LIMIT, 'the reports', reports);
    return { honest: report, attackers: attack.report, peakMemory: watch.peakMemory };
  }

  /** Waits for `work`, or rejects when a child fails. */
  unlessFailed<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#failed]);
  }

  async end(): Promise<void> {
    await Promise.all(this.#children.map((child) => child.stop()));
  }

  #start<Message extends { kind: string }, Config extends object>(
    role: 'relay' | 'honest' | 'attack',
    config: Config,
  ): Child<Message> {
    const child = new Child<Message>(role, config, this.fail);
    this.#children.push(child);
    return child;
  }

  /** Waits for `work`; rejects if it takes longer than `milliseconds`, or a child fails. */
  async #within<T>(milliseconds: number, what: string, work: Promise<T>): Promise<T> {
    const late = () => this.fail(new Error(`waited ${milliseconds / 1000} s for ${what}`));
    const timer = setTimeout(late, milliseconds);
    try {
      return await this.unlessFailed(work);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Keeps the latest reports of the relay and the honest peers. */
class Watch {
  peakMemory = 0;
  #counts: RelayCounts | undefined;
  #honest: HonestProgress = {
    latency: { p50: Number.NaN, p99: Number.NaN },
    received: { fromHonest: 0, fromAttackers: 0 },
  };

  constructor(relay: Child<FromRelay>, honest: Child<FromHonest>) {
    relay.on('counts', ({ counts }) => {
      this.#counts = counts;
      this.peakMemory = Math.max(this.peakMemory, counts.residentMemory);
    });
    honest.on('progress', ({ progress }) => {
      this.#honest = progress;
    });
  }

  /** Returns the latest reports; the relay's only if it is newer than the last call. */
  latest(): { counts: RelayCounts | undefined; honest: HonestProgress } {
    const counts = this.#counts;
    this.#counts = undefined;
    return { counts, honest: this.#honest };
  }
}
