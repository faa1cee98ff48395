// The log of a node: what it admitted and when, and when it took the store for down. Each entry is written at once and
// by one call of the system, so a node that is killed loses none.

import { openSync, readFileSync, writeSync } from 'node:fs';
import type { Admission, Cut } from '../../examples/fleet/bound.js';

/** An entry of a log, as JSON in a line. Times are seconds of the machine's clock. */
type Entry =
  | [kind: 'admitted', peer: string, from: number, at: number, cost: number]
  | [kind: 'down' | 'up', at: number];

export class NodeLog {
  readonly #file: number;

  constructor(name: string) {
    this.#file = openSync(name, 'a');
  }

  /** A check that began at `from` was known to be admitted at `at`. */
  admitted(peer: string, from: number, at: number, cost: number): void {
    this.#write(['admitted', peer, from, at, cost]);
  }

  store(state: 'up' | 'down', at: number): void {
    this.#write([state, at]);
  }

  #write(entry: Entry): void {
    writeSync(this.#file, `${JSON.stringify(entry)}\n`);
  }
}

/** What the logs of all nodes say. */
export interface FleetLog {
  /** Admissions by peer. */
  readonly admissions: ReadonlyMap<string, readonly Admission[]>;
  /** When a node took the store for down. */
  readonly cuts: readonly Cut[];
}

/** Reads the logs of nodes. A node that was down when its log ended counts as down until `endedAt`. */
export function readLogs(names: readonly string[], endedAt: number): FleetLog {
  const admissions = new Map<string, Admission[]>();
  const cuts: Cut[] = [];
  for (const [node, name] of names.entries()) {
    let downSince: number | undefined;
    for (const line of readFileSync(name, 'utf8').split('\n')) {
      if (line === '') continue;
      const entry = JSON.parse(line) as Entry;
      if (entry[0] === 'admitted') {
        const [, peer, from, at, cost] = entry;
        const known = admissions.get(peer) ?? [];
        admissions.set(peer, known);
        known.push({ from, at, cost });
      } else {
        const [state, at] = entry;
        if (downSince !== undefined) cuts.push({ node, from: downSince, to: at });
        downSince = state === 'down' ? at : undefined;
      }
    }
    if (downSince !== undefined) cuts.push({ node, from: downSince, to: endedAt });
  }
  return { admissions, cuts };
}
