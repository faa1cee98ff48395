// `npx relay-limiter shared`: the shared tables of this user on this machine.

import { invalidValue, type LimiterError } from '../common/errors.js';
import type { AttachedLimiter, BansInForce, Violator } from '../common/types.js';
import type { SharedFile } from '../engine/engine.js';
import { selectSharedFiles } from '../engine/select.js';
import { DirectConnectionRateLimiter } from '../limiters/direct-connection-rate-limiter.js';
import { OrderbookRateLimiter } from '../limiters/orderbook-rate-limiter.js';
import { RateLimiter } from '../limiters/rate-limiter.js';
import { removeShared } from '../limiters/remove-shared.js';
import { RuleLimiter } from '../rules/rule-limiter.js';
import { readOptionsText } from '../rules/shared-rules.js';
import { json } from './json.js';

export const SHARED_USAGE = `  npx relay-limiter shared                 lists the shared tables of this user
  npx relay-limiter shared NAME            shows one: limits, peers, processes, violators and bans
  npx relay-limiter shared --remove NAME   removes its file; running processes keep it

NAME is the value of the option \`shared\`, a name or an absolute path. The first two take --json.
`;

const CLASSES = { RateLimiter, OrderbookRateLimiter, DirectConnectionRateLimiter };
const MOST_BANS = 10;

/** What a table contains, or one scope of a RuleLimiter's. */
interface Content {
  readonly peers: number;
  readonly totalViolations: number;
  readonly topViolators: readonly Violator[];
  /** Undefined for a limiter without bans. */
  readonly bans: BansInForce | undefined;
}

/** A table, as it is in the list. */
interface Table {
  readonly name: string;
  readonly file: SharedFile;
  /** By scope; by '' without scopes. */
  readonly contents: ReadonlyMap<string, Content>;
  /** The rules of a RuleLimiter. */
  readonly rules: ReturnType<typeof readOptionsText> | undefined;
}

/** A table that cannot be read. */
interface Unreadable {
  readonly name: string;
  readonly error: Pick<LimiterError, 'code' | 'message'>;
}

/** Returns what to print. Undefined if the arguments are not accepted. @throws the errors of the files */
export function sharedCommand(args: readonly string[]): string | undefined {
  const asJson = args.includes('--json');
  const rest = args.filter((argument) => argument !== '--json');
  const [first, second] = rest;
  if (first === '--remove') {
    return rest.length === 2 && !asJson ? remove(second as string) : undefined;
  }
  if (rest.length > 1 || first?.startsWith('--')) return undefined;
  if (first === undefined) return asJson ? json(list().map(toJson)) : listText(list());
  const table = read(first);
  if (table === undefined) throw absent(first);
  return asJson ? json(toJson(table)) : detailsText(table);
}

function remove(name: string): string {
  if (removeShared(name)) return `removed ${name}\n`;
  throw absent(name);
}

function list(): (Table | Unreadable)[] {
  return selectSharedFiles()
    .names()
    .flatMap((name): (Table | Unreadable)[] => {
      try {
        const table = read(name);
        return table === undefined ? [] : [table];
      } catch (error) {
        return [{ name, error: error as LimiterError }];
      }
    });
}

/** Undefined if there is no such file. @throws the errors of the file */
function read(name: string): Table | undefined {
  const files = selectSharedFiles();
  const file = files.inspect(files.pathOf(name));
  if (file === undefined) return undefined;
  if (file.rules !== undefined) return readRules(name, file, file.rules);
  const Limiter = (CLASSES as Record<string, (typeof CLASSES)[keyof typeof CLASSES]>)[file.limiter];
  if (Limiter === undefined) {
    throw invalidValue('ERR_LIMITER_SHARED', 'the limiter', file.limiter, 'one of this version');
  }
  // This limiter is not among those that were attached when the file was looked at.
  const limiter = new Limiter({ ...optionsOf(file), engine: 'native', shared: file.path });
  try {
    const { peers, totalViolations, topViolators } = limiter.getOverview();
    const bans = 'getBans' in limiter ? limiter.getBans(MOST_BANS) : undefined;
    const content = { peers, totalViolations, topViolators, bans };
    return { name, file, contents: new Map([['', content]]), rules: undefined };
  } finally {
    limiter.close();
    limiter.close();
  }
}

function readRules(name: string, file: SharedFile, text: string): Table {
  const rules = readOptionsText(text);
  const { maxPeers } = file.config;
  const limiter = new RuleLimiter({ ...rules, maxPeers, engine: 'native', shared: file.path });
  try {
    const contents = new Map(
      limiter.scopeNames.map((scope): [string, Content] => {
        const { peers, totalViolations, topViolators } = limiter.scope(scope).getOverview();
        const bans = limiter.getBans(scope, MOST_BANS);
        return [scope, { peers, totalViolations, topViolators, bans }];
      }),
    );
    return { name, file, contents, rules };
  } finally {
    limiter.close();
    limiter.close();
  }
}

function peersOf({ contents }: Table): number {
  return [...contents.values()].reduce((sum, { peers }) => sum + peers, 0);
}

/** Each scope of a RuleLimiter has room for `maxPeers`. */
function mostPeersOf({ file, contents }: Table): number {
  return (file.config['maxPeers'] as number) * contents.size;
}

/** The options of a limiter with the numbers of a file. In a file Infinity stands for null. */
function optionsOf({ config }: SharedFile): Record<string, number | null> {
  const entries = Object.entries(config);
  return Object.fromEntries(
    entries.map(([option, value]) => [option, value === Infinity ? null : value]),
  );
}

function absent(name: string): Error {
  return invalidValue('ERR_LIMITER_SHARED', 'the table', name, 'one that exists');
}

function listText(listed: readonly (Table | Unreadable)[]): string {
  if (listed.length === 0) return 'There are no shared tables of this user.\n';
  const head = ['name', 'limiter', 'peers', 'of', 'size', 'attached', 'created'];
  const rows = listed.map((each) => {
    if ('error' in each) return [each.name, each.error.message];
    const { limiter, bytes, attached, createdAt } = each.file;
    return [
      each.name,
      limiter,
      count(peersOf(each)),
      count(mostPeersOf(each)),
      size(bytes),
      count(attached.length),
      instant(createdAt),
    ];
  });
  return table([head, ...rows], new Set([2, 3, 4, 5]));
}

function detailsText({ name, file, contents, rules }: Table): string {
  const { attached } = file;
  const { maxPeers, ...limits } = optionsOf(file);
  const most = maxPeers as number;
  const rows: [title: string, lines: string[]][] = [
    ['name', [name]],
    ['limiter', [file.limiter]],
    ['path', [file.path]],
    ['created', [instant(file.createdAt)]],
    [
      'limits',
      rules === undefined
        ? Object.entries(limits).map(([option, value]) => `${option} ${value ?? 'never'}`)
        : ruleLines(rules),
    ],
    ['size', [`${size(file.bytes)}, and up to ${size(file.maxBytes)} with the keys of offenders`]],
    ['attached', attached.length === 0 ? ['none'] : attached.map(attachedText)],
  ];
  for (const [scope, { peers, totalViolations, topViolators, bans }] of contents) {
    if (scope !== '') rows.push(['scope', [keyText(scope)]]);
    rows.push(['peers', [`${count(peers)} of ${count(most)}: ${percent(peers / most)}`]]);
    rows.push(['violations', [count(totalViolations), ...violatorLines(topViolators)]]);
    if (bans !== undefined) rows.push(['bans', [count(bans.count), ...banLines(bans)]]);
  }
  return table(
    rows.flatMap(([title, lines]) => lines.map((line, n) => [n === 0 ? title : '', line])),
    new Set(),
  );
}

/** A line for each rule: its name and what it is, but for what is as by default. */
function ruleLines({ rules, plans }: NonNullable<Table['rules']>): string[] {
  const lines = Object.entries(rules).map(([name, { unit, dryRun, violation: _, ...rule }]) => {
    const others = { ...(unit === 'requests' ? {} : { unit }), ...(dryRun ? { dryRun } : {}) };
    return `${keyText(name)} ${JSON.stringify({ ...rule, ...others })}`;
  });
  const names = Object.keys(plans).map(keyText);
  if (names.length > 0) lines.push(`plans ${names.join(', ')}`);
  return lines.length === 0 ? ['none'] : lines;
}

function attachedText({ pid, since }: AttachedLimiter): string {
  return `process ${pid} since ${instant(since)}`;
}

function violatorLines(violators: readonly Violator[]): string[] {
  return aligned(violators.map(([key, violations]) => [count(violations), keyText(key)]));
}

function banLines({ bans }: BansInForce): string[] {
  return aligned(bans.map(([key, seconds]) => [`${count(Math.ceil(seconds))} s`, keyText(key)]));
}

/** A peer chooses its key, so it must not control the terminal. */
function keyText(key: string): string {
  return JSON.stringify(key).replace(/[\x7f-\x9f\u2028\u2029]/g, escapeOf);
}

function escapeOf(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function aligned(rows: [number: string, text: string][]): string[] {
  const width = Math.max(...rows.map(([number]) => number.length));
  return rows.map(([number, text]) => `${number.padStart(width)}  ${text}`);
}

/** Columns with two spaces between them. The last cell of a row has any width. */
function table(rows: readonly string[][], rightAligned: ReadonlySet<number>): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [n, cell] of row.slice(0, -1).entries()) {
      widths[n] = Math.max(widths[n] ?? 0, cell.length);
    }
  }
  const lines = rows.map((row) =>
    row.map((cell, n) =>
      rightAligned.has(n) && row.length > 2
        ? cell.padStart(widths[n] ?? 0)
        : cell.padEnd(widths[n] ?? 0),
    ),
  );
  return `${lines.map((cells) => cells.join('  ').trimEnd()).join('\n')}\n`;
}

function count(number: number): string {
  return number.toLocaleString('en');
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)}%`;
}

function size(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function instant(milliseconds: number): string {
  return new Date(milliseconds).toISOString().slice(0, 19).replace('T', ' ').concat('Z');
}

function toJson(table: Table | Unreadable): object {
  if ('error' in table) {
    const { code, message } = table.error;
    return { name: table.name, error: { code, message } };
  }
  const { name, file, contents, rules } = table;
  const { path, createdAt, attached: limiters, isDetached: detached, rules: _, ...sizes } = file;
  // The first fields are those of `limiter.shared`.
  const shared = { name, path, createdAt, attached: limiters.length, limiters, detached };
  const all = { ...shared, ...sizes, config: optionsOf(file) };
  if (rules === undefined) return { ...all, ...contents.get('') };
  return { ...all, peers: peersOf(table), rules, scopes: Object.fromEntries(contents) };
}
