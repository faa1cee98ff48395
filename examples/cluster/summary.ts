// The summary of both runs, and the check whether the shared limit held.

import { type Admission, excess } from '../fleet/bound.js';

export interface Run {
  /** Messages that all workers admitted; of the shared run as the table counted them, the killed worker's too. */
  readonly admitted: number;
  /** Those that were reported before the kill, or by the others. */
  readonly admissions: readonly Admission[];
  readonly refused: number;
  readonly seconds: number;
}

export interface Outcome {
  readonly shared: Run;
  readonly apart: Run;
  readonly rateLimit: number;
  readonly burstLimit: number;
}

/** Returns what went wrong; an empty list if the shared limit held and messages were admitted. */
export function failures({ shared, rateLimit, burstLimit }: Outcome): string[] {
  const failed: string[] = [];
  const above = shared.admitted - most(shared, { rateLimit, burstLimit });
  const over = Math.max(above, excess(shared.admissions, rateLimit, burstLimit));
  if (over > 1e-6) failed.push(`the limit was exceeded by ${over.toFixed(2)} messages`);
  if (shared.admitted < burstLimit) failed.push('not even the burst was admitted');
  return failed;
}

/** Returns what the limit allows in the time of a run: burst + rate x time. */
export function most(
  { seconds }: Run,
  { rateLimit, burstLimit }: { rateLimit: number; burstLimit: number },
): number {
  return burstLimit + rateLimit * seconds;
}

export function summary(outcome: Outcome): string {
  const { shared, apart, rateLimit, burstLimit } = outcome;
  const runs = [shared, apart];
  const failed = failures(outcome);
  return [
    row('', ['shared', 'not shared']),
    row(
      'admitted by all workers',
      runs.map(({ admitted }) => count(admitted)),
    ),
    row(
      `burst + rate x time: ${burstLimit} + ${rateLimit} x s`,
      runs.map((run) => count(most(run, outcome))),
    ),
    row(
      'admitted of what the limit allows',
      runs.map((run) => `${Math.floor((run.admitted / most(run, outcome)) * 100)}%`),
    ),
    row(
      'maximum excess in any interval',
      runs.map(({ admissions }) => beyond(excess(admissions, rateLimit, burstLimit))),
    ),
    row(
      'refused',
      runs.map(({ refused }) => count(refused)),
    ),
    '',
    failed.length === 0
      ? 'The limit held for all workers together, and a kill changed nothing. Without the option\n' +
        '`shared` each worker has a limit of its own, and a new worker a full burst.'
      : `The limit did not hold: ${failed.join('; ')}.`,
  ].join('\n');
}

function beyond(over: number): string {
  return over > 1e-6 ? count(Math.ceil(over)) : 'none';
}

function row(title: string, cells: readonly string[]): string {
  return `${title.padEnd(38)}${cells.map((cell) => cell.padStart(12)).join('')}`.trimEnd();
}

function count(number: number): string {
  return Math.floor(number).toLocaleString('en-US');
}
