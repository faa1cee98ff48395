// Tables whose rows stay while their peers do: a button that has the focus keeps it, and nothing flickers.
// Text alone goes in, never markup.

import type { Listed } from '../messages.js';
import { count, keyText } from './text.js';

interface Row {
  readonly element: HTMLTableRowElement;
  readonly violations: HTMLElement;
  readonly more: HTMLElement | undefined;
}

export interface TableOptions<Entry extends Listed> {
  readonly body: HTMLTableSectionElement;
  /** Shown while there are no rows. */
  readonly empty: HTMLElement;
  limiterName(limiter: number): string;
  /** One more column. */
  more?(entry: Entry): string;
  /** A last column, with what acts on the entry, if anything does. */
  action?(entry: Entry): HTMLElement | undefined;
}

export class PeerTable<Entry extends Listed> {
  readonly #options: TableOptions<Entry>;
  readonly #rows = new Map<string, Row>();

  constructor(options: TableOptions<Entry>) {
    this.#options = options;
  }

  show(entries: readonly Entry[]): void {
    const { body, empty } = this.#options;
    const ids = entries.map(({ limiter, key, hash = '' }) => `${limiter} ${hash} ${key}`);
    const staying = new Set(ids);
    for (const [id, { element }] of this.#rows) {
      if (staying.has(id)) continue;
      element.remove();
      this.#rows.delete(id);
    }
    entries.forEach((entry, place) => {
      const row = this.#rowOf(ids[place] as string, entry);
      write(row.violations, count(entry.violations));
      if (row.more !== undefined) write(row.more, this.#options.more?.(entry) ?? '');
      const there = body.rows[place];
      if (there !== row.element) body.insertBefore(row.element, there ?? null);
    });
    empty.hidden = entries.length > 0;
    (body.parentElement as HTMLElement).hidden = entries.length === 0;
  }

  #rowOf(id: string, entry: Entry): Row {
    const known = this.#rows.get(id);
    if (known !== undefined) return known;
    const { limiterName, more, action } = this.#options;
    const element = document.createElement('tr');
    element.append(peerCell(entry, limiterName(entry.limiter)));
    const violations = cell(element, 'number');
    const row = { element, violations, more: more && cell(element, 'number') };
    if (action !== undefined) cell(element, 'action').append(action(entry) ?? '');
    this.#rows.set(id, row);
    return row;
  }
}

function peerCell({ key, length }: Listed, limiter: string): HTMLElement {
  const { short, whole } = keyText(key, length);
  const head = document.createElement('th');
  head.scope = 'row';
  // A key of letters that run leftward must not turn its neighbours around.
  const peer = document.createElement('bdi');
  peer.className = 'key';
  peer.textContent = short;
  peer.title = whole;
  const name = document.createElement('span');
  name.className = 'limiter';
  name.textContent = limiter;
  head.append(peer, name);
  return head;
}

function cell(row: HTMLTableRowElement, className: string): HTMLElement {
  const element = row.insertCell();
  element.className = className;
  return element;
}

/** Writes only what changes. */
export function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}
