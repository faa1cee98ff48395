// A case: one measurement of several contestants at several sizes.

/** Figures by the names of the case's metrics; NaN if a contestant does not support one. */
export type Figures = Record<string, number>;

/** The figures of one round, and optionally a curve of [peers, first metric]. */
export interface Round {
  figures: Figures;
  curve?: [number, number][];
}

export interface Metric {
  name: string;
  unit: 'ns' | 'ms' | 's' | 'B' | 'MB' | '%';
  /** The header of its column. */
  label: string;
  /** True for a metric that only explains the others and is not compared. */
  aside?: true;
}

/** Resources that all contestants of a case use, such as a server. Created before their processes, closed after them. */
export interface Surroundings {
  /** Environment variables of the contestants' processes. */
  env: Record<string, string>;
  close(): Promise<void>;
}

export interface Case {
  name: string;
  /** What is measured. */
  title: string;
  /** Numbers of peers. */
  sizes: readonly number[];
  contestants(size: number): readonly string[];
  /** Number of rounds without `--quick`. */
  rounds: number;
  /** Whether each round needs a new process, because a round affects the next one. */
  fresh: boolean;
  /** The first metric is the one that is compared. Lower is better for all of them. */
  metrics: readonly Metric[];
  /** The contestant that the others are compared with. Default: the plain Map. */
  baseline?: string;
  /** V8 flags of the contestants' processes. */
  flags?: readonly string[];
  /** @throws with the reason why the case is not measured. */
  surroundings?(): Promise<Surroundings>;
  /**
   * Prepares a contestant in its own process, and returns the function that runs one round.
   * @throws with the reason why this contestant is not measured.
   */
  prepare(contestant: string, size: number): Promise<() => Promise<Round> | Round>;
}

export const SIZES = [1_000, 100_000, 1_000_000, 10_000_000] as const;

/** The size of a case without peers. */
export const NO_PEERS = 1;
