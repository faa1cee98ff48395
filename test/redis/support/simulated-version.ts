// SimulatedVersion: does what the scripts of version.ts do. updates.real.test.ts compares both.

import { OLDER } from '../../../lib/redis/store/version.js';

const MOST_NAMES = 10;

export class SimulatedVersion {
  text = '';
  readonly #clock: () => number;

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  sync([known = '', whole]: string[]): string {
    const header = headerOf(this.text);
    if (numberOf(known) > numberOf(header)) {
      if (whole === undefined) return OLDER;
      this.text = whole;
    }
    return header !== '' && header === known ? header : this.text;
  }

  change([known = '', before = '', name = '', content = '']: string[]): string {
    const header = headerOf(this.text);
    if (header !== known && numberOf(header) >= numberOf(known)) return this.text;
    const former = known === '' ? [before] : known.split('|').slice(2);
    const names = [name, ...former.filter((one) => one !== name)];
    if (names.length > MOST_NAMES) names.splice(-2, 1);
    const number = Math.max(numberOf(known) + 1, Math.floor(this.#clock() * 1000));
    this.text = `rlv1|${number}|${names.join('|')}\n${content}`;
    return this.text;
  }
}

function headerOf(text: string): string {
  return text.split('\n', 1)[0] as string;
}

function numberOf(header: string): number {
  return Number(header.split('|')[1] ?? 0);
}
