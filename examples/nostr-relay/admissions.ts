// A log of what the relay has admitted, to check the limits against. All processes of the relay append to one file.

import { openSync, writeSync } from 'node:fs';
import type { Cost, Keys } from 'relay-limiter';

/** A check that was admitted between two times, in seconds of the machine's monotonic clock. */
export interface LoggedCheck {
  readonly from: number;
  readonly at: number;
  readonly keys: Keys;
  readonly cost: Cost;
  readonly action: string;
}

export type LogAdmission = (check: LoggedCheck) => void;

/** A line is written before what it admits has any effect, so a process that is killed has logged it. */
export function openLog(path: string | undefined): LogAdmission | undefined {
  if (path === undefined) return undefined;
  const file = openSync(path, 'a');
  return (check) => writeSync(file, `${JSON.stringify({ process: process.pid, ...check })}\n`);
}
