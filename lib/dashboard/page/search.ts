// Finds a peer by its key: its violations, whether it is banned, and a button that bans it or lifts its ban.

import { type About, decodeSeconds, type FoundPeer, type HandBans } from '../messages.js';
import { ban, find, lift, liftedBan } from './actions.js';
import { LiveTable, note, write } from './table.js';
import { clockTime, count, keyOf, keyText, timeLeft } from './text.js';

/** The data of the page that the search reads. */
export interface SearchContext {
  limiter(place: number): About | undefined;
  allowLift(): boolean;
  /** The remaining seconds of a ban, if the page lists it. */
  secondsLeft(limiter: number, key: string): number | undefined;
}

const byId = <E extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as E;

export class PeerSearch {
  readonly #context: SearchContext;
  readonly #table: LiveTable<FoundPeer>;
  /** The key of the latest search, and the time of its answer. */
  #key = '';
  #foundAt = 0;

  constructor(context: SearchContext) {
    this.#context = context;
    this.#table = new LiveTable<FoundPeer>({
      table: byId<HTMLTableElement>('found'),
      empty: byId('find-hint'),
      title: byId('find-title'),
      id: ({ limiter, banned }) => `${limiter} ${banned} ${this.#key}`,
      head: ({ limiter }) => [note(context.limiter(limiter)?.name ?? '')],
      columns: [({ violations }) => count(violations), (peer) => this.#state(peer)],
      action: (peer) => this.#button(peer),
    });
    byId('find').addEventListener('submit', (event) => {
      event.preventDefault();
      // The page shows blanks at the ends of a key as escapes.
      this.#key = keyOf(byId<HTMLInputElement>('find-key').value.trim());
      void this.#look();
    });
  }

  async #look(): Promise<void> {
    const key = this.#key;
    const found = await find(key);
    // Another search may have started in the meantime.
    if (found === undefined || key !== this.#key) return;
    this.#foundAt = Date.now();
    this.#table.show(found.peers);
    write(
      byId('found-note'),
      `${keyText(key, key.length).short}: ${summary(found.peers)}, as of ${clockTime(Date.now())}`,
    );
  }

  #state(peer: FoundPeer): string {
    if (peer.banned === null) return 'bans nobody';
    if (!peer.banned) return 'not banned';
    const left = this.#secondsLeft(peer);
    if (left === undefined) return 'banned';
    return left === Infinity ? 'banned forever' : `banned, ${timeLeft(left)} left`;
  }

  #secondsLeft({ limiter, secondsLeft }: FoundPeer): number | undefined {
    if (secondsLeft === undefined) return this.#context.secondsLeft(limiter, this.#key);
    return decodeSeconds(secondsLeft) - (Date.now() - this.#foundAt) / 1000;
  }

  #button(peer: FoundPeer): HTMLElement | undefined {
    const { limiter, violations, banned } = peer;
    const about = this.#context.limiter(limiter);
    const key = this.#key;
    if (about === undefined) return undefined;
    const how = about.ban;
    const target = { limiter: about.name, key, length: key.length };
    if (banned) {
      if (!this.#context.allowLift()) return undefined;
      return this.#acting('Lift', () => {
        const left = this.#secondsLeft(peer);
        const canUndo = how !== null && left !== undefined;
        if (
          !canUndo &&
          !confirm(
            `Lift the ban of ${keyText(key, key.length).short} in ${about.name}? It cannot be undone.`,
          )
        ) {
          return Promise.resolve();
        }
        return lift(target, canUndo ? liftedBan(left, violations, how) : null);
      });
    }
    if (banned === null || how === null) return undefined;
    return this.#acting('Ban', async () => {
      const seconds = await askSeconds(keyText(key, key.length).short, about.name, how);
      if (seconds !== undefined) await ban(target, { seconds });
    });
  }

  #acting(text: string, act: () => Promise<unknown>): HTMLElement {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = text;
    button.addEventListener('click', async () => {
      const place = this.#table.placeOf(button);
      await act();
      await this.#look();
      this.#table.focus(place);
    });
    return button;
  }
}

function summary(peers: readonly FoundPeer[]): string {
  if (peers.length === 0) return 'no key of any limiter';
  const banned = peers.filter((peer) => peer.banned).length;
  return banned === 0 ? 'not banned' : `banned by ${count(banned)} of the limiters`;
}

/** Asks the user for the duration of a ban; undefined if the user cancels. */
function askSeconds(
  peer: string,
  limiter: string,
  { seconds, most }: HandBans,
): Promise<number | undefined> {
  const dialog = byId<HTMLDialogElement>('ban-dialog');
  const input = byId<HTMLInputElement>('ban-seconds');
  write(byId('ban-peer'), peer);
  write(byId('ban-limiter'), limiter);
  write(byId('ban-most'), most === 'forever' ? '' : `at most ${count(most)}`);
  input.max = most === 'forever' ? '' : String(most);
  input.value = String(seconds);
  // Escape closes the dialog without a return value.
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      'close',
      () => resolve(dialog.returnValue === 'ban' ? input.valueAsNumber : undefined),
      { once: true },
    );
  });
}
