// The messages between the processes of the demonstration.

export interface NodeConfig {
  url: string;
  prefix: string;
  rateLimit: number;
  burstLimit: number;
  /** The number of relays. */
  nodes: number;
}

export interface Counts {
  kind: 'counts';
  /** Messages of the flooder. */
  admitted: number;
  refused: number;
  /** Script calls for all peers, and heartbeats. */
  calls: number;
  leased: number;
  /** The number of nodes that this relay knows. */
  nodes: number;
  store: 'up' | 'down' | 'none';
  /** The interval of each admission since the last report, in seconds of the machine's monotonic clock. */
  admissions: [from: number, at: number][];
}

/** Since `at`, in seconds of the machine's clock, the relay considers the store unavailable (`isDown`) or available. */
export interface StoreState {
  kind: 'state';
  at: number;
  isDown: boolean;
}

export type FromNode = { kind: 'listening'; port: number } | StoreState | Counts;

/** The name of the peer that floods all relays. */
export const FLOODER = 'mallory';

export interface LoadConfig {
  ports: number[];
  /** Messages per second from the flooder to each relay. */
  rate: number;
  /** Messages per second from each relay's steady peer. */
  steadyRate: number;
}

/** Returns the time of a clock that is the same in all processes of a machine. */
export function machineSeconds(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds + nanoseconds / 1e9;
}
