// The actions of the page: sends them to the server and reports their outcome in a toast. The toast is at the bottom of
// the window, so that it is visible at any scroll position, until the user dismisses it.

import {
  decodeSeconds,
  encodeSeconds,
  type Found,
  type HandBan,
  type HandBans,
  type Lift,
} from '../messages.js';
import { write } from './table.js';
import { keyText, timeLeft } from './text.js';

/** A peer of a limiter, as in the server's messages. */
export interface Target {
  /** The name of the limiter. */
  readonly limiter: string;
  readonly key: string;
  readonly hash?: string | undefined;
  readonly length: number;
}

/** Milliseconds after which a request without a response fails. */
const TIMEOUT_MS = 10_000;

const toast = element('toast');
const news = element('news');
const undo = element('undo');

function element(id: string): HTMLElement {
  return document.getElementById(id) as HTMLElement;
}

/** The remaining duration and the violations of a ban before it was lifted. */
export interface Lifted {
  /** Infinity: for ever. */
  readonly seconds: number;
  readonly violations: number;
}

/** The parameters that restore a ban by hand, with `left` seconds left: more than 0 and at most what the limiter allows. */
export function liftedBan(left: number, violations: number, { most }: HandBans): Lifted {
  return { seconds: Math.min(decodeSeconds(most), Math.max(0.001, left)), violations };
}

/** Lifts a ban, reports the outcome, and offers to restore the ban unless `lifted` is null. */
export async function lift(target: Target, lifted: Lifted | null): Promise<boolean> {
  const status = (await post('lift', { ...peer(target) } satisfies Lift))?.status;
  if (status === 204) {
    const again = lifted === null ? undefined : () => void ban(target, lifted, ' again');
    report(`Lifted the ban of ${name(target)}`, again);
  } else if (status === 404) {
    report(`There is no ban any more of ${name(target)}`);
  } else {
    report(`Could not lift the ban of ${name(target)}. ${reason(status)}`);
  }
  return status === 204;
}

/** Bans a peer by hand and reports the outcome. */
export async function ban(
  target: Target,
  how: Pick<HandBan, 'violations'> & { seconds: number },
  again = '',
): Promise<void> {
  const seconds = encodeSeconds(how.seconds);
  const status = (await post('ban', { ...peer(target), ...how, seconds } satisfies HandBan))
    ?.status;
  const length = seconds === 'forever' ? seconds : `for ${timeLeft(seconds)}`;
  if (status === 204) report(`Banned ${name(target)}${again} ${length}`);
  else report(`Could not ban ${name(target)}. ${reason(status)}`);
}

/** Returns what the limiters know about a peer. Reports an error and returns undefined if the request fails. */
export async function find(key: string): Promise<Found | undefined> {
  const answer = await post('find', { key });
  if (answer?.ok) return answer.json();
  report(`Could not look up ${keyText(key, key.length).short}. ${reason(answer?.status)}`);
  return undefined;
}

function peer({ limiter, key, hash }: Target): Lift {
  return { limiter, key, ...(hash !== undefined && { hash }) };
}

function name({ limiter, key, length, hash }: Target): string {
  return `${keyText(key, length, hash).short} in ${limiter}`;
}

function reason(status: number | undefined): string {
  if (status === 409) return 'The limiter is full of banned peers.';
  if (status === 401) return 'The token is needed again: reload this page.';
  return status === undefined
    ? 'The server did not answer: try again.'
    : `The server answered with ${status}.`;
}

async function post(path: string, body: object): Promise<Response | undefined> {
  try {
    const headers = { 'Content-Type': 'application/json' };
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    return await fetch(path, { method: 'POST', headers, body: JSON.stringify(body), signal });
  } catch {
    return undefined;
  }
}

let undoLatest: (() => void) | undefined;

function report(text: string, undoing?: () => void): void {
  // Before the undo button is hidden, so that the focus stays in the toast.
  if (undoing === undefined && document.activeElement === undo) element('dismiss').focus();
  undoLatest = undoing;
  undo.hidden = undoing === undefined;
  toast.classList.add('shown');
  write(news, text);
}

undo.addEventListener('click', () => {
  const act = undoLatest;
  undoLatest = undefined;
  act?.();
});
element('dismiss').addEventListener('click', () => {
  element('bans-title').focus({ preventScroll: true });
  toast.classList.remove('shown');
  write(news, '');
});
