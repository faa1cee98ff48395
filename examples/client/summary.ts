// The summary of a run, and the check whether the limiter kept its promise.

import { announcement } from './nodes.js';
import type { PhaseResult } from './phase.js';

export interface Outcome {
  readonly limited: PhaseResult;
  readonly naive: PhaseResult;
}

/** Returns the failures of the limiter; an empty list if it kept its promise. */
export function failures({ limited }: Outcome): string[] {
  return limited.nodes.flatMap(({ spec, refused }) => {
    const most = spec.draft === undefined ? 1 : 0;
    return refused > most ? [`${spec.name} refused ${refused}; the maximum is ${most}`] : [];
  });
}

export function summary(outcome: Outcome): string {
  const { limited, naive } = outcome;
  const failed = failures(outcome);
  const refused = ({ nodes }: PhaseResult) => sum(nodes.map((node) => node.refused));
  const sent = ({ nodes }: PhaseResult) => sum(nodes.map((node) => node.sent));
  const both = (title: string, show: (phase: PhaseResult) => string | number) =>
    row(title, show(limited), show(naive));
  return [
    headline(limited, naive),
    '',
    row('', 'relay-limiter', 'naive'),
    ...limited.nodes.map(({ spec, refused }, at) =>
      row(`429 from ${spec.name} (${announcement(spec)})`, refused, naive.nodes[at]?.refused ?? 0),
    ),
    both('429 in all', refused),
    both('requests answered', ({ done }) => done),
    both('requests sent', sent),
    both('seconds', (phase) => phase.seconds.toFixed(1)),
    '',
    failed.length === 0
      ? 'relay-limiter kept its promise: no 429 with headers, at most one without.'
      : `relay-limiter did not keep its promise: ${failed.join('; ')}.`,
  ].join('\n');
}

/** The sentence that a newcomer remembers. */
function headline(limited: PhaseResult, naive: PhaseResult): string {
  const refusals = naive.nodes.reduce((total, { refused }) => total + refused, 0);
  if (refusals === 0) return 'So few requests exceed no limit: both clients send them at once.';
  const times = (naive.seconds / limited.seconds).toFixed(1);
  return `The polite client finished ${times} times as fast: the naive one was refused ${refusals} times.`;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function row(title: string, limited: string | number, naive: string | number): string {
  return `${title.padEnd(24)}${String(limited).padStart(14)}${String(naive).padStart(8)}`;
}
