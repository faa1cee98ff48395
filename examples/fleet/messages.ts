// What the processes of the demonstration tell each other.

export interface NodeConfig {
  url: string;
  prefix: string;
  rateLimit: number;
  burstLimit: number;
  /** How many relays there are. */
  nodes: number;
}

export interface Counts {
  kind: 'counts';
  /** Of the flooder. */
  admitted: number;
  refused: number;
  /** Scripts called for all peers, and signs of life. */
  calls: number;
  leased: number;
  /** Nodes that it knows of. */
  nodes: number;
  store: 'up' | 'down' | 'none';
  /** Between which times messages were admitted since the last report, in seconds of the machine's monotonic clock. */
  admissions: [from: number, at: number][];
}

/** From `at` on the relay takes the store for gone, or no longer, in seconds of the machine's clock. */
export interface StoreState {
  kind: 'state';
  at: number;
  isDown: boolean;
}

export type FromNode = { kind: 'listening'; port: number } | StoreState | Counts;

/** Who floods all relays. */
export const FLOODER = 'mallory';

export interface LoadConfig {
  ports: number[];
  /** Messages of the flooder a second to each. */
  rate: number;
  /** And of a steady peer that each has for itself. */
  steadyRate: number;
}

/** The same clock in all processes of a machine. */
export function machineSeconds(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds + nanoseconds / 1e9;
}
