// Tables that keep the rows of unchanged entries, so that a focused button keeps its focus and nothing flickers. Cells
// are set as text, never as markup.

import { keyText } from './text.js';

interface Row {
  readonly element: HTMLTableRowElement;
  readonly cells: readonly HTMLElement[];
}

export interface TableOptions<Entry> {
  readonly table: HTMLTableElement;
  /** Shown while there are no rows. */
  readonly empty: HTMLElement;
  /** Gets the focus if the focused row is removed. */
  readonly title: HTMLElement;
  /** Identifies the row of an entry. */
  id(entry: Entry): string;
  /** The content of the row's header cell. */
  head(entry: Entry): readonly Node[];
  /** The texts of the further columns. */
  readonly columns: readonly ((entry: Entry) => string)[];
  /** The content of the last column: a button that acts on the entry, if there is one. */
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
      // Not to the next button: the user may be about to press the removed one.
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

  /** Focuses the button of a row, or of the last row if there are fewer, or the title if there is no button. */
  focus(place: number): void {
    const { rows } = this.#body;
    const row = rows[Math.min(place, rows.length - 1)];
    (row?.querySelector('button') ?? this.#options.title).focus();
  }

  /** The index of the row that contains an element. */
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

/** A key that expands to its whole text. A `title` attribute would not work on touch screens. */
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

/** A name that the program has chosen, such as that of a rule. */
export function nameElement(text: string): HTMLElement {
  const element = document.createElement('bdi');
  element.className = 'name';
  element.textContent = text;
  return element;
}

function isolated(text: string): HTMLElement {
  // bdi: a key in a right-to-left script must not reorder the text around it.
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

/** Sets the text of an element if it has changed. */
export function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}
