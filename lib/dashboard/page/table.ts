// Tables whose rows stay while their peers do: a button that has the focus keeps it, and nothing flickers.
// Text alone goes in, never markup.

import { keyText } from './text.js';

interface Row {
  readonly element: HTMLTableRowElement;
  readonly cells: readonly HTMLElement[];
}

export interface TableOptions<Entry> {
  readonly table: HTMLTableElement;
  /** Shown while there are no rows. */
  readonly empty: HTMLElement;
  /** Takes the focus of a row that goes. */
  readonly title: HTMLElement;
  /** A row stays while its entry's id does. */
  id(entry: Entry): string;
  /** The row's head. */
  head(entry: Entry): readonly Node[];
  /** The columns behind it. */
  readonly columns: readonly ((entry: Entry) => string)[];
  /** A last column, with what acts on the entry, if anything does. */
  action?(entry: Entry): HTMLElement | undefined;
}

export class LiveTable<Entry> {
  readonly #options: TableOptions<Entry>;
  readonly #body: HTMLTableSectionElement;
  readonly #rows = new Map<string, Row>();

  constructor(options: TableOptions<Entry>) {
    this.#options = options;
    this.#body = options.table.tBodies[0] as HTMLTableSectionElement;
  }

  show(entries: readonly Entry[]): void {
    const { table, empty, title, columns } = this.#options;
    const ids = entries.map(this.#options.id);
    const staying = new Set(ids);
    for (const [id, { element }] of this.#rows) {
      if (staying.has(id)) continue;
      // Not to the next button: somebody may be about to press this one.
      if (element.contains(document.activeElement)) title.focus({ preventScroll: true });
      element.remove();
      this.#rows.delete(id);
    }
    entries.forEach((entry, place) => {
      const { element, cells } = this.#rowOf(ids[place] as string, entry);
      columns.forEach((text, i) => {
        write(cells[i] as HTMLElement, text(entry));
      });
      const there = this.#body.rows[place];
      if (there !== element) this.#body.insertBefore(element, there ?? null);
    });
    empty.hidden = entries.length > 0;
    table.hidden = entries.length === 0;
  }

  /** Puts the focus on the button of a row, of the last one where there are fewer, or else on the title. */
  focus(place: number): void {
    const { rows } = this.#body;
    const row = rows[Math.min(place, rows.length - 1)];
    (row?.querySelector('button') ?? this.#options.title).focus();
  }

  /** Which row an element is in. */
  placeOf(element: HTMLElement): number {
    const row = element.closest('tr');
    return row === null ? 0 : [...this.#body.rows].indexOf(row);
  }

  #rowOf(id: string, entry: Entry): Row {
    const known = this.#rows.get(id);
    if (known !== undefined) return known;
    const { head, columns, action } = this.#options;
    const element = document.createElement('tr');
    const first = document.createElement('th');
    first.scope = 'row';
    first.append(...head(entry));
    element.append(first);
    const row = { element, cells: columns.map(() => cell(element, 'number')) };
    if (action !== undefined) cell(element, 'action').append(action(entry) ?? '');
    this.#rows.set(id, row);
    return row;
  }
}

/** A key, all of it where somebody asks: a title is nothing for fingers. */
export function keyElement(key: string, length: number, hash?: string): HTMLElement {
  const { short, whole } = keyText(key, length, hash);
  if (short === whole) return isolated(short);
  const details = document.createElement('details');
  const summary = document.createElement('summary');
  summary.append(isolated(short));
  const rest = document.createElement('div');
  rest.className = 'whole';
  rest.textContent = whole;
  details.append(summary, rest);
  return details;
}

function isolated(text: string): HTMLElement {
  // A key of letters that run leftward must not turn its neighbours around.
  const element = document.createElement('bdi');
  element.className = 'key';
  element.textContent = text;
  return element;
}

export function note(text: string): HTMLElement {
  const element = document.createElement('span');
  element.className = 'limiter';
  element.textContent = text;
  return element;
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
