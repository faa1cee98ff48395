// What the page asks the server to do, and what it says became of that: at the foot of the window, in view
// wherever the page is scrolled to, until it is dismissed.

import type { Found, HandBan, Lift } from '../messages.js';
import { write } from './table.js';
import { keyText, timeLeft } from './text.js';

/** A peer of a limiter, as the server names it. */
export interface Target {
  /** The limiter's name. */
  readonly limiter: string;
  readonly key: string;
  readonly hash?: string | undefined;
  readonly length: number;
}

/** Milliseconds that the server has for an answer. */
const PATIENCE = 10_000;

const toast = element('toast');
const news = element('news');
const undo = element('undo');

function element(id: string): HTMLElement {
  return document.getElementById(id) as HTMLElement;
}

/** What a ban was before it was lifted. */
export interface Lifted {
  readonly seconds: number;
  readonly violations: number;
}

/** Lifts a ban, says so, and offers to put it back as it was; null: that cannot be. */
export async function lift(target: Target, lifted: Lifted | null): Promise<boolean> {
  const status = (await post('lift', { ...peer(target) } satisfies Lift))?.status;
  if (status === 204) {
    const again = lifted === null ? undefined : () => void ban(target, lifted, ' again');
    say(`Lifted the ban of ${name(target)}`, again);
  } else if (status === 404) {
    say(`There is no ban any more of ${name(target)}`);
  } else {
    say(`Could not lift the ban of ${name(target)}. ${reason(status)}`);
  }
  return status === 204;
}

/** Bans a peer by hand, and says so. */
export async function ban(
  target: Target,
  how: Pick<HandBan, 'violations'> & { seconds: number },
  again = '',
): Promise<void> {
  const status = (await post('ban', { ...peer(target), ...how } satisfies HandBan))?.status;
  if (status === 204) say(`Banned ${name(target)}${again} for ${timeLeft(how.seconds)}`);
  else say(`Could not ban ${name(target)}. ${reason(status)}`);
}

/** What the limiters know of a peer; undefined, which it says, where the server does not answer. */
export async function find(key: string): Promise<Found | undefined> {
  const answer = await post('find', { key });
  if (answer?.ok) return answer.json();
  say(`Could not look up ${keyText(key, key.length).short}. ${reason(answer?.status)}`);
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
    const signal = AbortSignal.timeout(PATIENCE);
    return await fetch(path, { method: 'POST', headers, body: JSON.stringify(body), signal });
  } catch {
    return undefined;
  }
}

let undoLatest: (() => void) | undefined;

function say(text: string, undoing?: () => void): void {
  // Before its button goes: the focus stays in the toast.
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
