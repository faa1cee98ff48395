// The limits of the relay: the scopes, which the program defines, and the sections of limits.json, which its operator edits
// while the relay runs.

import { readFileSync } from 'node:fs';
import { type EngineName, RuleLimiter, type RuleSections } from 'relay-limiter';

/** What an event is to the limits, by its kind. */
const ACTIONS: ReadonlyMap<number, string> = new Map([
  [0, 'profile'],
  [1, 'note'],
  [3, 'contacts'],
  [4, 'dm'],
  [6, 'repost'],
  [7, 'reaction'],
  [16, 'repost'],
  // A gift wrap (NIP-59): its author is a new random key, so the limits by address must hold it back.
  [1059, 'dm'],
]);

type Sections = { readonly [Name in keyof RuleSections]-?: NonNullable<RuleSections[Name]> };

/** A section that the file leaves out is empty: by itself `update` would keep it. */
const EMPTY: Sections = { rules: {}, plans: {}, bans: {}, allow: {}, deny: {} };

export function actionOf(kind: number): string {
  return ACTIONS.get(kind) ?? 'other';
}

export class RelayLimits {
  readonly limiter: RuleLimiter;
  readonly #path: string;
  #sections: Sections;
  /** The plans of paying authors, by public key. */
  #planByAuthor: ReadonlyMap<string, string>;

  /** @throws an Error, or `ERR_LIMITER_OPTION`, for a file that is not accepted. */
  constructor(path: string, engine?: EngineName | 'auto') {
    this.#path = path;
    [this.#sections, this.#planByAuthor] = readFile(path);
    this.limiter = new RuleLimiter({
      engine,
      scopes: {
        connection: {},
        address: { kind: 'address' },
        network: { from: 'address', ipv4Subnet: 24, ipv6Subnet: 48 },
        account: {},
        server: { single: true },
      },
      ...this.#sections,
      cleanup: { maxAgeSeconds: 3600 },
    });
  }

  get rules(): Sections['rules'] {
    return this.#sections.rules;
  }

  planOf(author: string): string | undefined {
    return this.#planByAuthor.get(author);
  }

  /** Reads the file again. @throws as the constructor does; then nothing has changed. */
  reload(): void {
    const [sections, planByAuthor] = readFile(this.#path);
    this.limiter.update(sections);
    this.#sections = sections;
    this.#planByAuthor = planByAuthor;
  }
}

/** Validates `authors`; the limiter validates the sections. */
function readFile(path: string): [Sections, Map<string, string>] {
  const given: unknown = JSON.parse(readFileSync(path, 'utf8'));
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new Error('the file must contain a JSON object');
  }
  const { authors = {}, ...own } = given as { authors?: Record<string, unknown> };
  const sections: Sections = { ...EMPTY, ...own };
  const planByAuthor = new Map<string, string>();
  for (const [plan, keys] of Object.entries(authors)) {
    if (!Object.hasOwn(sections.plans, plan)) {
      throw new Error(`authors must be an object by names of plans, got "${plan}"`);
    }
    if (!Array.isArray(keys) || !keys.every((key) => /^[0-9a-f]{64}$/.test(key))) {
      throw new Error(`authors.${plan} must be an array of public keys of 64 hexadecimal digits`);
    }
    for (const key of keys) planByAuthor.set(key, plan);
  }
  return [sections, planByAuthor];
}
