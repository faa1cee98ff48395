// A case: one question, asked of several contestants at several sizes.

/** Figures by the names of the case's metrics; NaN for what a contestant cannot do. */
export type Figures = Record<string, number>;

/** What one round gave; perhaps also a curve: [peers, first metric]. */
export interface Round {
  figures: Figures;
  curve?: [number, number][];
}

export interface Metric {
  name: string;
  unit: 'ns' | 'ms' | 's' | 'B' | 'MB' | '%';
  /** What it is, in a column's head. */
  label: string;
  /** Says something about the others, and is itself nothing to win. */
  aside?: true;
}

/** What all contestants of a case use, such as a server: made before their processes, gone after them. */
export interface Surroundings {
  /** What their processes are told of it. */
  env: Record<string, string>;
  close(): Promise<void>;
}

export interface Case {
  name: string;
  /** The question. */
  title: string;
  /** Numbers of peers. */
  sizes: readonly number[];
  contestants(size: number): readonly string[];
  /** Rounds in a whole run. */
  rounds: number;
  /** Whether each round has a process of its own, since what it measures leaves traces. */
  fresh: boolean;
  /** The first is the one that is compared. Of all of them less is better. */
  metrics: readonly Metric[];
  /** Whom the others are compared with; the Map where it is not said. */
  baseline?: string;
  /** Flags of V8 that it is measured under. */
  flags?: readonly string[];
  /** @throws with the reason why the case is not measured. */
  surroundings?(): Promise<Surroundings>;
  /**
   * Makes a contestant ready, in a process of its own, and returns what does one round.
   * @throws with the reason why this contestant is not measured.
   */
  prepare(contestant: string, size: number): Promise<() => Promise<Round> | Round>;
}

export const SIZES = [1_000, 100_000, 1_000_000, 10_000_000] as const;

/** The size of a case that has no peers. */
export const NO_PEERS = 1;
