// Reads the sections of the options of a RuleLimiter: scopes, rules, plans, bans and lists. Everything is validated, and
// nothing refers to the caller's objects afterwards. @throws `ERR_LIMITER_OPTION` with the path of the invalid value.

import { limiterError, show } from '../common/errors.js';
import { isArray } from '../common/kinds.js';
import { detachString } from '../common/strings.js';
import {
  MAX_PLANS,
  MAX_RULES,
  MAX_SCOPES,
  MAX_UNITS,
  type RuleBanConfig,
} from '../engine/rules.js';
import {
  at,
  type Fields,
  fields,
  invalid,
  named,
  number,
  type Path,
  requireName,
  tooMany,
} from './fields.js';
import { AddressList, type Network, readNetwork } from './networks.js';

/** The unit of a cost that is a number. */
export const REQUESTS = 'requests';
/** The unit whose costs guards fill in. */
export const BYTES = 'bytes';
/** The action of a message in a guard. */
export const MESSAGE = 'message';
/** The action of messages that a guard delivers to a peer. */
export const DELIVERY = 'delivery';

export interface ScopeSpec {
  readonly name: string;
  readonly index: number;
  readonly kind: 'text' | 'address' | 'derived' | 'single';
  /** The index of the scope that a derived scope gets its address from. */
  readonly from: number;
  readonly ipv4Subnet: number;
  readonly ipv6Subnet: number;
}

/** The numbers of a rule as they are given. */
export interface NumberFields {
  readonly rateLimit?: number;
  readonly burstLimit?: number;
  readonly quota?: number;
  readonly windowSeconds?: number;
  readonly warnBelow?: number;
}

/** The numbers of a token bucket. */
export interface BucketSpec {
  /** In tokens per second. */
  readonly rate: number;
  readonly burst: number;
  readonly warnBelow: number;
}

export interface RuleSpec {
  readonly name: string;
  readonly scope: number;
  /** Undefined: every check. */
  readonly actions: readonly string[] | undefined;
  readonly unit: string;
  readonly numbers: NumberFields;
  readonly bucket: BucketSpec;
  readonly dryRun: boolean;
  readonly violation: boolean;
}

export interface PlanSpec {
  readonly name: string;
  /** By rule; null: the rule does not apply. */
  readonly rules: ReadonlyMap<string, NumberFields | null>;
}

/** The allowed or denied keys of one scope. */
export interface KeyList {
  /** The keys of a text scope. */
  readonly texts: ReadonlySet<string>;
  /** The networks of an address scope. */
  readonly networks: AddressList;
  /** The same as they were given; empty for texts. */
  readonly given: readonly string[];
}

/** The lists by scope; undefined without one. */
export type Lists = readonly (KeyList | undefined)[];

const SCOPE_FIELDS = ['kind', 'from', 'ipv4Subnet', 'ipv6Subnet', 'single'];
const NUMBER_FIELDS = ['rateLimit', 'burstLimit', 'quota', 'windowSeconds', 'warnBelow'] as const;
const RULE_FIELDS = ['scope', 'action', 'unit', ...NUMBER_FIELDS, 'dryRun', 'violation'];
const BAN_FIELDS = ['violations', 'withinSeconds', 'seconds', 'jitter', 'forgetAfterSeconds'];

export function readScopes(given: unknown): ScopeSpec[] {
  const entries = named(given, 'scopes');
  if (entries.length === 0) throw invalid('scopes', given, 'an object with at least one scope');
  if (entries.length > MAX_SCOPES) throw tooMany('scopes', entries.length, MAX_SCOPES);
  const names = entries.map(([name]) => name);
  const read = entries.map(([name, scope], index) => readScope(name, scope, index, names));
  const scopes = read.map((scope, i) => withSubnets(scope, entries[i]?.[1] as Fields, read));
  for (const scope of scopes) if (scope.kind === 'derived') requireSource(scope, scopes);
  return scopes;
}

function readScope(
  name: string,
  given: unknown,
  index: number,
  names: readonly string[],
): ScopeSpec {
  const path = at('scopes', name);
  const scope = fields(given, path, SCOPE_FIELDS);
  const { kind = 'text', from, single = false } = scope;
  if (kind !== 'text' && kind !== 'address') {
    throw invalid(`${path}.kind`, kind, "'text' or 'address'");
  }
  if (typeof single !== 'boolean') throw invalid(`${path}.single`, single, 'true or false');
  if (from !== undefined && !names.includes(from as string)) {
    throw invalid(`${path}.from`, from, `the name of a scope: ${names.join(', ')}`);
  }
  const hasAddress = from !== undefined || kind === 'address';
  if (single && hasAddress)
    throw invalid(`${path}.single`, single, 'false in a scope of addresses');
  if (from !== undefined && scope['kind'] === 'text') {
    throw invalid(`${path}.kind`, kind, "'address' or absent in a scope with from");
  }
  for (const field of ['ipv4Subnet', 'ipv6Subnet']) {
    if (scope[field] === undefined || hasAddress) continue;
    throw invalid(
      `${path}.${field}`,
      scope[field],
      "absent unless kind is 'address' or from is given",
    );
  }
  return {
    name,
    index,
    kind: from !== undefined ? 'derived' : single ? 'single' : kind,
    from: names.indexOf(from as string),
    ipv4Subnet: subnet(scope, path, 'ipv4Subnet', 32, 32),
    ipv6Subnet: subnet(scope, path, 'ipv6Subnet', 64, 128),
  };
}

function subnet(scope: Fields, path: Path, name: string, fallback: number, max: number): number {
  const accepted = `a whole number from 1 to ${max}`;
  return number(
    scope,
    path,
    name,
    accepted,
    (n) => Number.isInteger(n) && n >= 1 && n <= max,
    fallback,
  );
}

/** A derived scope has the subnets of its source, unless it has its own. */
function withSubnets(scope: ScopeSpec, given: Fields, scopes: readonly ScopeSpec[]): ScopeSpec {
  const source = scopes[scope.from];
  if (source === undefined) return scope;
  return {
    ...scope,
    ipv4Subnet: given['ipv4Subnet'] === undefined ? source.ipv4Subnet : scope.ipv4Subnet,
    ipv6Subnet: given['ipv6Subnet'] === undefined ? source.ipv6Subnet : scope.ipv6Subnet,
  };
}

/** The network of a derived scope contains that of its source. */
function requireSource(scope: ScopeSpec, scopes: readonly ScopeSpec[]): void {
  const source = scopes[scope.from] as ScopeSpec;
  const path = at('scopes', scope.name);
  if (source.kind !== 'address') {
    throw invalid(`${path}.from`, source.name, "a scope of kind 'address' that has no from itself");
  }
  for (const field of ['ipv4Subnet', 'ipv6Subnet'] as const) {
    if (scope[field] <= source[field]) continue;
    throw invalid(
      `${path}.${field}`,
      scope[field],
      `at most that of ${show(source.name)}, ${source[field]}`,
    );
  }
}

export function readRules(given: unknown, scopes: readonly ScopeSpec[]): RuleSpec[] {
  const rules = named(given, 'rules').map(([name, rule]) => readRule(name, rule, scopes));
  const units = new Set(rules.map(({ unit }) => unit));
  if (units.size > MAX_UNITS) throw tooMany('units of rules', units.size, MAX_UNITS);
  for (const scope of scopes) {
    const { length } = rules.filter((rule) => rule.scope === scope.index);
    if (length > MAX_RULES)
      throw tooMany(`rules of the scope ${show(scope.name)}`, length, MAX_RULES);
  }
  return rules;
}

function readRule(name: string, given: unknown, scopes: readonly ScopeSpec[]): RuleSpec {
  const path = at('rules', name);
  const rule = fields(given, path, RULE_FIELDS);
  const { scope, action, unit = REQUESTS, dryRun = false } = rule;
  const index = scopes.findIndex((known) => known.name === scope);
  if (index === -1) {
    const names = scopes.map((known) => known.name);
    throw invalid(`${path}.scope`, scope, `the name of a scope: ${names.join(', ')}`);
  }
  if (typeof unit !== 'string') throw invalid(`${path}.unit`, unit, 'a string');
  requireName(unit, `${path}.unit`);
  if (typeof dryRun !== 'boolean') throw invalid(`${path}.dryRun`, dryRun, 'true or false');
  const actions = readActions(action, `${path}.action`);
  // How much a peer is sent is not the peer's doing.
  const { violation = actions?.includes(DELIVERY) !== true } = rule;
  if (typeof violation !== 'boolean')
    throw invalid(`${path}.violation`, violation, 'true or false');
  const numbers = readNumbers(rule, path);
  return {
    name,
    scope: index,
    actions,
    unit: detachString(unit),
    numbers,
    bucket: bucketOf(numbers, path),
    dryRun,
    violation,
  };
}

function readActions(given: unknown, path: Path): string[] | undefined {
  if (given === undefined) return undefined;
  const actions = isArray(given) ? given : [given];
  if (actions.length === 0 || !actions.every((action) => typeof action === 'string')) {
    throw invalid(path, given, 'a string, or an array of at least one string');
  }
  return actions.map((action) => detachString(action));
}

/** What the numbers of a rule must be. */
const NUMBERS: {
  [Name in keyof NumberFields]-?: [accepted: string, fits: (n: number) => boolean];
} = {
  rateLimit: ['a finite number greater than 0', (n) => n > 0],
  burstLimit: ['a finite number of at least 1', (n) => n >= 1],
  quota: ['a finite number of at least 1', (n) => n >= 1],
  windowSeconds: ['a finite number greater than 0', (n) => n > 0],
  warnBelow: ['a number from 0 to 1', (n) => n >= 0 && n <= 1],
};

/** Without the fields that are absent, so that a plan replaces only what it names. */
function readNumbers(given: Fields, path: Path): NumberFields {
  const numbers: { -readonly [Name in keyof NumberFields]: NumberFields[Name] } = {};
  for (const name of NUMBER_FIELDS) {
    if (given[name] !== undefined) numbers[name] = number(given, path, name, ...NUMBERS[name]);
  }
  return numbers;
}

/** The token bucket of a rule with these numbers. */
function bucketOf(numbers: NumberFields, path: Path): BucketSpec {
  const { rateLimit, burstLimit, quota, windowSeconds, warnBelow = 0 } = numbers;
  const hasQuota = quota !== undefined || windowSeconds !== undefined;
  const isWhole = quota !== undefined && windowSeconds !== undefined;
  if ((rateLimit === undefined) !== hasQuota || hasQuota !== isWhole) {
    const message = `${path} must have either rateLimit or both quota and windowSeconds, got ${
      Object.keys(numbers).join(', ') || 'none of them'
    }`;
    throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
  }
  const rate = rateLimit ?? (quota as number) / (windowSeconds as number);
  if (!(rate > 0 && rate < Infinity)) {
    throw invalid(
      `${path}.windowSeconds`,
      windowSeconds,
      'of a size that gives a finite rate above 0',
    );
  }
  const fallback = quota ?? Math.min(Math.max(1, rate * 10), Number.MAX_VALUE);
  return { rate, burst: burstLimit ?? fallback, warnBelow };
}

export function readPlans(given: unknown): PlanSpec[] {
  if (given === undefined) return [];
  const plans = named(given, 'plans').map(([name, plan]) => readPlan(name, plan));
  if (plans.length > MAX_PLANS) throw tooMany('plans', plans.length, MAX_PLANS);
  return plans;
}

function readPlan(name: string, given: unknown): PlanSpec {
  const path = at('plans', name);
  const rules = new Map<string, NumberFields | null>();
  for (const [rule, numbers] of named(given, path)) {
    if (numbers === null) rules.set(rule, null);
    else {
      const rulePath = at(path, rule);
      rules.set(rule, readNumbers(fields(numbers, rulePath, NUMBER_FIELDS), rulePath));
    }
  }
  return { name, rules };
}

/** The bucket of each rule in a plan; null if the rule does not apply there. */
export function bucketsIn(
  plan: PlanSpec,
  rules: readonly RuleSpec[],
  names: ReadonlySet<string>,
): (BucketSpec | null)[] {
  const path = at('plans', plan.name);
  for (const name of plan.rules.keys()) {
    if (names.has(name)) continue;
    const known = [...names].join(', ');
    const accepted = known === '' ? 'absent, as there are no rules' : `that of a rule: ${known}`;
    throw invalid(`a name in ${path}`, name, accepted);
  }
  return rules.map((rule) => {
    const numbers = plan.rules.get(rule.name);
    if (numbers === undefined || numbers === null) return numbers === null ? null : rule.bucket;
    return bucketOf(merged(rule.numbers, numbers), at(path, rule.name));
  });
}

/** The numbers of a plan replace those of the rule; the other pair replaces the rule's pair and its burst. */
function merged(numbers: NumberFields, own: NumberFields): NumberFields {
  const isQuota = own.quota !== undefined || own.windowSeconds !== undefined;
  const replacesPair = numbers.rateLimit === undefined ? own.rateLimit !== undefined : isQuota;
  if (!replacesPair) return { ...numbers, ...own };
  const { rateLimit, burstLimit, quota, windowSeconds, ...rest } = numbers;
  return { ...rest, ...own };
}

export function readBans(
  given: unknown,
  scopes: readonly ScopeSpec[],
): (RuleBanConfig | undefined)[] {
  const bans = new Array<RuleBanConfig | undefined>(scopes.length).fill(undefined);
  if (given === undefined) return bans;
  for (const [name, policy] of named(given, 'bans')) {
    bans[keyedScope(name, 'bans', scopes).index] = readBan(policy, at('bans', name));
  }
  return bans;
}

function readBan(given: unknown, path: Path): RuleBanConfig {
  const ban = fields(given, path, BAN_FIELDS);
  const { seconds } = ban;
  const steps: unknown[] = isArray(seconds) ? [...seconds] : [seconds];
  const isLength = (step: unknown) => typeof step === 'number' && step > 0;
  if (steps.length === 0 || !steps.every(isLength)) {
    const accepted = 'a number of seconds greater than 0, Infinity, or an array of at least one';
    throw invalid(`${path}.seconds`, seconds, accepted);
  }
  const violations = number(
    ban,
    path,
    'violations',
    'a finite number of at least 1',
    (n) => n >= 1,
  );
  const accepted = 'a finite number greater than 0, at which violations / withinSeconds is finite';
  const fits = (n: number) => n > 0 && violations / n < Infinity && violations / n > 0;
  return {
    violations,
    withinSeconds: number(ban, path, 'withinSeconds', accepted, fits),
    seconds: steps as number[],
    jitter: number(ban, path, 'jitter', 'at least 0 and below 1', (n) => n >= 0 && n < 1, 0),
    forgetAfterSeconds:
      ban['forgetAfterSeconds'] === Infinity
        ? Infinity
        : number(ban, path, 'forgetAfterSeconds', 'greater than 0', (n) => n > 0, Infinity),
  };
}

export function readLists(given: unknown, name: string, scopes: readonly ScopeSpec[]): Lists {
  const lists = new Array<KeyList | undefined>(scopes.length).fill(undefined);
  if (given === undefined) return lists;
  for (const [scopeName, keys] of named(given, name)) {
    const scope = keyedScope(scopeName, name, scopes);
    const list = readList(keys, at(name, scopeName), scope.kind === 'text');
    // An empty list is none: checks need not look at it.
    if (isArray(keys) && keys.length > 0) lists[scope.index] = list;
  }
  return lists;
}

function readList(given: unknown, path: Path, isText: boolean): KeyList {
  if (!isArray(given)) throw invalid(path, given, 'an array of strings');
  const texts = new Set<string>();
  const networks: Network[] = [];
  const addresses: string[] = [];
  for (let i = 0; i < given.length; i += 1) {
    const key = given[i];
    if (isText) {
      if (typeof key !== 'string') throw invalid(`${path}[${i}]`, key, 'a string');
      texts.add(detachString(key));
    } else {
      const network = readNetwork(key);
      const accepted = 'an IP address, or a network such as 10.0.0.0/8 with at least 1 bit';
      if (network === undefined) throw invalid(`${path}[${i}]`, key, accepted);
      networks.push(network);
      addresses.push(detachString(key as string));
    }
  }
  return { texts, networks: new AddressList(networks), given: addresses };
}

/** A scope with keys. */
function keyedScope(name: string, section: string, scopes: readonly ScopeSpec[]): ScopeSpec {
  const keyed = scopes.filter(({ kind }) => kind !== 'single');
  const scope = keyed.find((known) => known.name === name);
  if (scope !== undefined) return scope;
  const names = keyed.map((known) => known.name).join(', ');
  const accepted =
    names === '' ? 'absent, as no scope has keys' : `that of a scope with keys: ${names}`;
  throw invalid(`a name in ${section}`, name, accepted);
}
