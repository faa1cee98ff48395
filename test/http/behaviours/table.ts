// A table of behaviours of another package, in our words and by our names: each is held, which a test shows, differs by
// design, or is missing. docs/http.md lists those that are not held, with the same words.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

export interface Behaviour {
  readonly name: string;
  /** Why it differs, or is missing; undefined: it is held. */
  readonly reason?: string;
  readonly check?: () => unknown;
}

export function held(name: string, check: () => unknown): Behaviour {
  return { name, check };
}

export function differs(name: string, reason: string): Behaviour {
  return { name, reason };
}

const DOCUMENT = new URL('../../../docs/http.md', import.meta.url);

/** Tests the behaviours of `peer`, of which at least `least` must be held. */
export function testBehaviours(
  peer: string,
  least: number,
  groups: Readonly<Record<string, readonly Behaviour[]>>,
): void {
  const all = Object.values(groups).flat();
  for (const [group, behaviours] of Object.entries(groups)) {
    describe(`of ${peer}, ${group}:`, () => {
      for (const { name, check } of behaviours) {
        if (check !== undefined) test(name, async () => void (await check()));
      }
    });
  }

  describe(`of ${peer}`, () => {
    test(`at least ${least} behaviours are held, each by a test of its own name`, () => {
      expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
      expect(all.filter(({ check }) => check !== undefined).length).toBeGreaterThanOrEqual(least);
    });

    test('docs/http.md lists every other behaviour with its reason, and no more', () => {
      const others = all.filter(({ reason }) => reason !== undefined);
      const rows = others.map(({ name, reason }) => `| ${name} | ${reason} |`);
      const text = readFileSync(DOCUMENT, 'utf8');
      const section =
        text.split(`## Behaviours of ${peer} that differ`)[1]?.split('\n## ')[0] ?? '';
      const listed = section.split('\n').filter((line) => /^\| (?!-|behaviour )/.test(line));
      expect(listed).toEqual(rows);
    });
  });
}
