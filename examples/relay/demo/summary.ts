// The summary of a run, and the check whether the guard did its job.

import { ADDRESS_BAN } from '../guard.js';
import type { AttackReport, HonestReport, Tally } from './messages.js';
import type { PhaseResult } from './phase.js';
import { integer, megabytes, milliseconds } from './units.js';

export interface Outcome {
  /** Honest peers and attackers had the same address. */
  oneAddress: boolean;
  off: PhaseResult;
  on: PhaseResult;
}

/** Returns the failures of the guard; an empty list if it did its job. */
export function failures({ oneAddress, off, on }: Outcome): string[] {
  const { publicMessages, privateMessages, orderbooks, disconnected, newcomer } = on.honest;
  const failures: string[] = [];
  const claim = (holds: boolean, otherwise: string) => {
    if (!holds) failures.push(otherwise);
  };
  claim(complete(publicMessages), 'honest peers lost public messages');
  claim(complete(privateMessages), 'honest peers lost private messages');
  claim(complete(orderbooks), 'honest peers waited for an order book that did not arrive');
  claim(disconnected === 0, 'honest peers lost their connection');
  // With one address, a ban of the attackers also affects every honest newcomer.
  claim(oneAddress || newcomer !== 'refused', 'an honest newcomer was refused');
  // The median: if the machine stalls for a moment, the slowest deliveries say nothing about the guard.
  claim(on.honest.latency.p50 < off.honest.latency.p50 / 2, 'deliveries were not clearly faster');
  for (const attacker of on.attackers) {
    claim(stopped(attacker), `the ${attacker.name} was not stopped`);
  }
  return failures;
}

export function summary(outcome: Outcome): string {
  const { oneAddress, off, on } = outcome;
  const failed = failures(outcome);
  const verdict =
    failed.length === 0
      ? 'The guard did its job: honest peers lost nothing, and every attacker was stopped.'
      : `The guard did not do its job: ${failed.join('; ')}.`;
  return [
    '',
    headline(off.honest.latency.p50, on.honest.latency.p50),
    verdict,
    '',
    row('What honest peers got', 'guard off', 'guard on'),
    ...honestRows(off, on),
    '',
    row('What happened to the attackers', 'guard off', 'guard on'),
    ...off.attackers.flatMap((attacker, index) => attackRows(attacker, on.attackers[index])),
    '',
    ...DIFFERENT_TOTALS,
    ...(oneAddress && on.honest.newcomer === 'refused' ? LOCKED_OUT : []),
  ].join('\n');
}

/** The sentence that a newcomer remembers: half of the deliveries were that much faster. */
export function headline(off: number, on: number): string {
  if (Number.isNaN(on)) return 'Honest peers received nothing with the guard.';
  if (Number.isNaN(off)) return 'Honest peers received nothing without the guard.';
  const times = off / on;
  if (times < 1) return 'Honest peers: not faster with the guard.';
  return `Honest peers: ${times < 10 ? times.toFixed(1) : integer(Math.round(times))} times faster with the guard.`;
}

const DIFFERENT_TOTALS = [
  'The totals of the phases differ: peers send by timers, which are late on a busy machine, and ask for',
  'an order book only when they have the last one.',
];

/** The consequence of a ban if all peers share one address. */
const LOCKED_OUT = [
  'All peers share one address, which is banned. Connected peers stay connected, but',
  `newcomers are refused until the ban ends, honest ones too (${ADDRESS_BAN / 60} minutes after it began).`,
];

function honestRows(off: PhaseResult, on: PhaseResult): string[] {
  const both = (title: string, show: (honest: HonestReport) => string) =>
    row(`  ${title}`, show(off.honest), show(on.honest));
  return [
    both('public messages delivered', (honest) => share(honest.publicMessages)),
    both('private messages delivered', (honest) => share(honest.privateMessages)),
    both("attackers' messages received", (honest) => integer(honest.spam)),
    both('order books answered', (honest) => share(honest.orderbooks)),
    both('50% of all deliveries within', (honest) => milliseconds(honest.latency.p50)),
    both('99% of all deliveries within', (honest) => milliseconds(honest.latency.p99)),
    both('one more, after the attack', (honest) => honest.newcomer),
    row("  relay's peak memory", megabytes(off.peakMemory), megabytes(on.peakMemory)),
  ];
}

function attackRows(off: AttackReport, on: AttackReport | undefined): string[] {
  if (on === undefined) return [];
  return [
    row(`  ${off.name}`, fate(off), fate(on)),
    ...(on.addresses === 1 ? [] : [row('', '', `from ${on.addresses} addresses`)]),
    ...(on.reason === '' ? [] : [row('', '', `(${on.reason})`)]),
  ];
}

function fate(attacker: AttackReport): string {
  if (attacker.connected || attacker.expelled + attacker.refused === 0) return 'never stopped';
  if (attacker.accepted === 0) return `never let in, refused ${attacker.refused} times`;
  const times = attacker.expelled === 1 ? 'after' : `${attacker.expelled} times in`;
  const closed = `closed ${times} ${attacker.expelledAfter.toFixed(1)} s`;
  return attacker.refused === 0 ? closed : `${closed}, refused ${attacker.refused} times`;
}

/** Returns true if the attacker was expelled or refused, and was not connected at the end. */
function stopped({ expelled, refused, connected }: AttackReport): boolean {
  return expelled + refused > 0 && !connected;
}

function complete({ expected, got }: Tally): boolean {
  return expected > 0 && got === expected;
}

function share({ expected, got }: Tally): string {
  return `${integer(got)} of ${integer(expected)}`;
}

function row(title: string, off: string, on: string): string {
  return `${title.padEnd(33)}${off.padEnd(22)}${on}`.trimEnd();
}
