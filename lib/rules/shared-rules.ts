// The rules of a RuleLimiter with a shared table. They lie in the file as text: the sections as a user would write them,
// and the slots of the rules, which depend on earlier updates. Each process compiles the text for itself.

import { limiterError, show } from '../common/errors.js';
import { isArray, isRecord } from '../common/kinds.js';
import type { SharedCore } from '../engine/engine.js';
import {
  MAX_RULES,
  MOST_RULE_TEXT,
  type RulesCore,
  type SharedRulesCore,
} from '../engine/rules.js';
import {
  compileAt,
  type Places,
  type RuleBook,
  readSections,
  type Sections,
  withoutAdditions,
} from './compile.js';
import { at, type Path } from './fields.js';
import type { KeyList, Lists, RuleSpec, ScopeSpec } from './sections.js';
import type { BanPolicy, Rule, RuleNumbers, RuleSections, Scope } from './types.js';

/** The core of a limiter with a shared table. */
export type SharedRuleCore = RulesCore & SharedRulesCore & SharedCore;

/** The options of a limiter that its file contains. */
type SharedOptions = {
  readonly [Name in keyof RuleSections]-?: NonNullable<RuleSections[Name]>;
} & { readonly scopes: Readonly<Record<string, Scope>> };

/** The content of the text of a file. */
type Content = SharedOptions & { readonly places: Places };

/** How often a call may find other rules than it has just adopted. Only a damaged file has new ones that often. */
const MOST_ATTEMPTS = 100;

/** The text of the scopes, which all limiters of a file must have. */
export function scopesText(scopes: readonly ScopeSpec[]): string {
  return JSON.stringify(scopesOf(scopes));
}

/** The text of scopes and rules. Equal rules have equal texts, if they have the same slots. */
export function rulesText(scopes: readonly ScopeSpec[], book: RuleBook): string {
  const content: Content = {
    ...optionsOf(scopes, book.sections),
    places: { rules: book.rules.map(({ slot }) => slot), slots: [...book.plan.slots] },
  };
  return JSON.stringify(content);
}

/** The text of scopes and rules without slots. Equal rules have equal texts. */
export function sectionsText(scopes: readonly ScopeSpec[], sections: Sections): string {
  return JSON.stringify(optionsOf(scopes, sections));
}

function optionsOf(
  scopes: readonly ScopeSpec[],
  { rules, plans, bans, allow, deny }: Sections,
): SharedOptions {
  const name = (index: number) => (scopes[index] as ScopeSpec).name;
  return {
    scopes: scopesOf(scopes),
    rules: Object.fromEntries(rules.map((rule) => [rule.name, ruleOf(rule, name(rule.scope))])),
    plans: Object.fromEntries(plans.map((plan) => [plan.name, Object.fromEntries(plan.rules)])),
    // JSON has null for Infinity.
    bans: byScope(scopes, bans, (policy): BanPolicy => policy),
    allow: listsOf(scopes, allow),
    deny: listsOf(scopes, deny),
  };
}

/** The options that a text stands for. @throws an error of JSON, or a TypeError, for other texts */
export function readOptionsText(text: string): SharedOptions {
  const { places: _, ...options } = contentOf(text);
  return options;
}

/** SharedRules keeps the rules of one limiter equal to those of its file. */
export class SharedRules {
  readonly #core: SharedRuleCore;
  readonly #scopes: readonly ScopeSpec[];
  /** For each scope the number of rules that the file has room for. */
  #rooms: readonly number[] = [];

  constructor(core: SharedRuleCore, scopes: readonly ScopeSpec[]) {
    this.#core = core;
    this.#scopes = scopes;
  }

  get rooms(): readonly number[] {
    return this.#rooms;
  }

  /**
   * Adopts the rules of the file, and returns them. A limiter may join with the rules that the file was created with, or
   * with those that it has now; `own` is the text of its rules. @throws `ERR_LIMITER_SHARED`
   */
  join(own: string): RuleBook {
    const { text, isFounding } = this.#core.readConfig(own);
    if (!isFounding) {
      const error = differenceIn(this.#path(), text, own);
      if (error !== undefined) throw error;
    }
    return this.adopt();
  }

  /**
   * Adopts the rules of the file, and returns them. `attempt` counts the adoptions of one call from 0.
   * @throws `ERR_LIMITER_SHARED` if they are damaged
   */
  adopt(attempt = 0): RuleBook {
    if (attempt === MOST_ATTEMPTS) {
      const message = `the shared file ${this.#path()} cannot be used: its rules change again and again, or are damaged`;
      throw limiterError(Error, 'ERR_LIMITER_SHARED', message);
    }
    const { text, rooms } = this.#core.readConfig('');
    try {
      const { places, ...sections } = contentOf(text);
      const read = readSections(sections, this.#scopes);
      requirePlaces(places, read.rules, rooms);
      const book = compileAt(this.#scopes, read, places);
      if (!this.#core.adoptPlan(book.plan)) throw new TypeError('the history must be of the rules');
      this.#rooms = rooms;
      return book;
    } catch (cause) {
      const message = `the shared file ${this.#path()} cannot be used: its rules are damaged`;
      throw limiterError(Error, 'ERR_LIMITER_SHARED', message, cause);
    }
  }

  /** Whether this limiter has the rules of the file. */
  isCurrent(): boolean {
    return this.#core.isCurrent();
  }

  /**
   * Makes the rules those of all limiters of the file. False if they have other ones meanwhile. `before` are the rules of this
   * limiter. @throws `ERR_LIMITER_OPTION` if they are too large, `ERR_LIMITER_MEMORY`, `ERR_LIMITER_SHARED`
   */
  publish(book: RuleBook, before: RuleBook, now: number | undefined): boolean {
    const text = rulesText(this.#scopes, book);
    requireSize(text);
    const plan = book.plan === before.plan ? withoutAdditions(book.plan) : book.plan;
    return this.#core.publish(plan, text, now);
  }

  #path(): string {
    return this.#core.sharedState().path;
  }
}

/** @throws `ERR_LIMITER_OPTION` */
export function requireSize(text: string): void {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes <= MOST_RULE_TEXT) return;
  const message = `the rules of a shared table must be at most ${MOST_RULE_TEXT} bytes as text, got ${bytes}`;
  throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
}

/**
 * The error that names the first difference between the rules of a file and other ones; undefined without one, or if
 * the text of the file is damaged. `part`: what is compared; default all.
 */
export function differenceIn(
  path: string,
  text: string,
  own: string,
  part?: 'scopes',
): Error | undefined {
  let found: Difference | undefined;
  try {
    const [theirs, ours] = [readOptionsText(text), readOptionsText(own)] as const;
    found =
      part === undefined
        ? firstDifference('', theirs, ours)
        : firstDifference(part, theirs[part], ours[part]);
  } catch {
    return undefined;
  }
  if (found === undefined) return undefined;
  const { name, theirs, ours } = found;
  const message = `the shared file ${path} cannot be used: its ${name} is ${theirs}, not ${ours}`;
  return limiterError(Error, 'ERR_LIMITER_SHARED', message);
}

interface Difference {
  readonly name: string;
  readonly theirs: string;
  readonly ours: string;
}

function firstDifference(path: Path, theirs: unknown, ours: unknown): Difference | undefined {
  if (isRecord(theirs) && isRecord(ours) && !isArray(theirs) && !isArray(ours)) {
    for (const name of new Set([...Object.keys(theirs), ...Object.keys(ours)])) {
      const inner = path === '' ? name : at(path, name);
      const found = firstDifference(inner, theirs[name], ours[name]);
      if (found !== undefined) return found;
    }
    // The order of rules decides between equal delays.
    const orders = [theirs, ours].map((object) => Object.keys(object).join(', '));
    if (orders[0] === orders[1]) return undefined;
    return { name: `order of ${path}`, theirs: orders[0] as string, ours: orders[1] as string };
  }
  const [a, b] = [textOf(theirs), textOf(ours)];
  if (a === b) return undefined;
  let same = 0;
  while (a[same] === b[same]) same += 1;
  return { name: String(path), theirs: excerpt(a, same), ours: excerpt(b, same) };
}

function textOf(value: unknown): string {
  if (value === undefined) return 'absent';
  return JSON.stringify(value, (_, each) => (each === Infinity ? 'Infinity' : each));
}

/** A text of at most some 100 characters, with what is at `place`. */
function excerpt(text: string, place: number): string {
  const start = text.length <= 100 ? 0 : Math.max(0, place - 50);
  const end = Math.min(text.length, start + 100);
  return `${start > 0 ? '...' : ''}${text.slice(start, end)}${end < text.length ? '...' : ''}`;
}

function scopesOf(scopes: readonly ScopeSpec[]): Record<string, Scope> {
  return Object.fromEntries(scopes.map((scope) => [scope.name, scopeOf(scope, scopes)]));
}

function scopeOf(scope: ScopeSpec, scopes: readonly ScopeSpec[]): Scope {
  const { kind, from, ipv4Subnet, ipv6Subnet } = scope;
  if (kind === 'text') return {};
  if (kind === 'single') return { single: true };
  const source = kind === 'derived' ? { from: scopes[from]?.name } : {};
  return { kind: 'address', ...source, ipv4Subnet, ipv6Subnet };
}

/** Every field of a rule but its numbers, so that the compiler finds one that is missing. */
type RuleFacts = {
  readonly [Name in Exclude<keyof Rule, keyof RuleNumbers>]-?: Rule[Name] | undefined;
};

function ruleOf({ actions, unit, numbers, dryRun, violation }: RuleSpec, scope: string): Rule {
  // JSON leaves out an action that is undefined.
  const rule = { scope, action: actions, unit, ...numbers, dryRun, violation };
  return rule satisfies RuleFacts & RuleNumbers;
}

function listsOf(scopes: readonly ScopeSpec[], lists: Lists): Record<string, readonly string[]> {
  // Their order says nothing: limiters with the same lists agree.
  return byScope(scopes, lists, ({ texts, given }: KeyList) => [...texts, ...given].sort());
}

function byScope<Value, Result>(
  scopes: readonly ScopeSpec[],
  values: readonly (Value | undefined)[],
  resultOf: (value: Value) => Result,
): Record<string, Result> {
  return Object.fromEntries(
    scopes.flatMap(({ name, index }) => {
      const value = values[index];
      return value === undefined ? [] : [[name, resultOf(value)]];
    }),
  );
}

/** Only its outermost form is certain: what is in it is to be validated as options of a user are. */
function contentOf(text: string): Content {
  const content = JSON.parse(text) as Content;
  const bans = Object.entries(content.bans ?? {}).map(([scope, policy]) => {
    const { seconds, forgetAfterSeconds } = policy as { [Name in keyof BanPolicy]: unknown };
    if (!isArray(seconds)) throw new TypeError(`seconds must be an array, got ${show(seconds)}`);
    const finite = { seconds: seconds.map(orInfinity) as number[] };
    return [scope, { ...policy, ...finite, forgetAfterSeconds: orInfinity(forgetAfterSeconds) }];
  });
  return { ...content, bans: Object.fromEntries(bans) };
}

function orInfinity(value: unknown): unknown {
  return value === null ? Infinity : value;
}

/** @throws a TypeError unless each rule has a slot of its own in its scope, for which the file has room */
function requirePlaces(
  { rules, slots }: Places,
  specs: readonly RuleSpec[],
  rooms: readonly number[],
): void {
  const isCount = (value: unknown, most: number) =>
    Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most;
  const taken = new Set(specs.map(({ scope }, i) => `${scope} ${rules[i]}`));
  const areValid =
    isArray(rules) &&
    isArray(slots) &&
    rules.length === specs.length &&
    taken.size === specs.length &&
    slots.length === rooms.length &&
    slots.every((count) => isCount(count, MAX_RULES)) &&
    specs.every(({ scope }, i) => isCount(rules[i], (slots[scope] as number) - 1));
  if (!areValid) throw new TypeError('each rule must have a slot of its own');
}
