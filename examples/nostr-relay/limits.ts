// The limits of the relay: the scopes, which the program defines, and the sections of limits.json, which its operator edits
// while the relay runs.

import { readFileSync } from 'node:fs';
import { type EngineName, RuleLimiter, type RuleSections, type RuleVerdict } from 'relay-limiter';

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

/** The content of limits.json, validated except for what the limiter validates. */
export interface LimitsFile {
  readonly sections: Sections;
  /** The public keys of paying authors, by plan. */
  readonly authors: Readonly<Record<string, readonly string[]>>;
}

/** A section that the file leaves out is empty: by itself `update` would keep it. */
const EMPTY: Sections = { rules: {}, plans: {}, bans: {}, allow: {}, deny: {} };
/** For each scope of a shared table, which has its full size from the beginning: 120 MB in all. */
const MAX_SHARED_PEERS = 100_000;

export function actionOf(kind: number): string {
  return ACTIONS.get(kind) ?? 'other';
}

export interface RelayLimitsOptions {
  readonly engine?: EngineName | 'auto' | undefined;
  /** The name of the table that the processes of the relay share. */
  readonly shared?: string | undefined;
}

export class RelayLimits {
  readonly limiter: RuleLimiter;
  #rules: Sections['rules'] = {};
  /** The plans of paying authors, by public key. */
  #planByAuthor: ReadonlyMap<string, string> = new Map();

  /** @throws `ERR_LIMITER_OPTION` for sections that are not accepted, or an error of the shared table. */
  constructor(file: LimitsFile, { engine, shared }: RelayLimitsOptions = {}) {
    this.limiter = new RuleLimiter({
      engine,
      scopes: {
        connection: {},
        address: { kind: 'address' },
        network: { from: 'address', ipv4Subnet: 24, ipv6Subnet: 48 },
        account: {},
        server: { single: true },
      },
      ...file.sections,
      cleanup: { maxAgeSeconds: 3600 },
      ...(shared !== undefined && { shared, maxPeers: MAX_SHARED_PEERS }),
    });
    this.adopt(file);
  }

  get rules(): Sections['rules'] {
    return this.#rules;
  }

  /** Checks an event of an author. */
  checkEvent(keys: { address?: string }, author: string, action: string): RuleVerdict {
    const all = { ...keys, account: author };
    try {
      return this.limiter.check(all, 1, action, this.#planByAuthor.get(author));
    } catch (error) {
      // Another process has changed the plans, and its message has not arrived here yet.
      if ((error as { code?: unknown }).code !== 'ERR_LIMITER_OPTION') throw error;
      return this.limiter.check(all, 1, action);
    }
  }

  /** Puts a file in force, for all processes that share the table. @throws as the constructor does; then nothing has changed. */
  update(file: LimitsFile): void {
    this.limiter.update(file.sections);
    this.adopt(file);
  }

  /** Takes over what is not in the table, of a file that is in force. */
  adopt({ sections, authors }: LimitsFile): void {
    this.#rules = sections.rules;
    this.#planByAuthor = new Map(
      Object.entries(authors).flatMap(([plan, keys]) => keys.map((key) => [key, plan] as const)),
    );
  }
}

/** Validates `authors`; the limiter validates the sections. @throws an Error for a file that is not accepted. */
export function readLimits(path: string): LimitsFile {
  const given: unknown = JSON.parse(readFileSync(path, 'utf8'));
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new Error('the file must contain a JSON object');
  }
  const { authors = {}, ...own } = given as { authors?: Record<string, string[]> };
  const sections: Sections = { ...EMPTY, ...own };
  for (const [plan, keys] of Object.entries(authors)) {
    if (!Object.hasOwn(sections.plans, plan)) {
      throw new Error(`authors must be an object by names of plans, got "${plan}"`);
    }
    if (!Array.isArray(keys) || !keys.every((key) => /^[0-9a-f]{64}$/.test(key))) {
      throw new Error(`authors.${plan} must be an array of public keys of 64 hexadecimal digits`);
    }
  }
  return { sections, authors };
}
