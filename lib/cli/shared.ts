// `npx relay-limiter shared`: the shared tables of this user on this machine.

import { invalidValue, type LimiterError } from '../common/errors.js';
import type { AttachedLimiter, BansInForce, Violator } from '../common/types.js';
import type { SharedFile } from '../engine/engine.js';
import { selectSharedFiles } from '../engine/select.js';
import { DirectConnectionRateLimiter } from '../limiters/direct-connection-rate-limiter.js';
import { OrderbookRateLimiter } from '../limiters/orderbook-rate-limiter.js';
import { RateLimiter } from '../limiters/rate-limiter.js';
import { removeShared } from '../limiters/shared-table.js';
import { json } from './json.js';

export const SHARED_USAGE = `  npx relay-limiter shared                 lists the shared tables of this user
  npx relay-limiter shared NAME            shows one: limits, peers, processes, violators and bans
  npx relay-limiter shared --remove NAME   removes its file; who has it keeps it

NAME is the value of the option \`shared\`, a name or an absolute path. The first two take --json.
`;

const CLASSES = { RateLimiter, OrderbookRateLimiter, DirectConnectionRateLimiter };
const MOST_BANS = 10;

/** A table in the list; one that cannot be read has only an error. */
type Listed = { readonly name: string } & (
  | { readonly file: SharedFile }
  | { readonly error: Pick<LimiterError, 'code' | 'message'> }
);

interface Details {
  readonly name: string;
  readonly file: SharedFile;
  readonly totalViolations: number;
  readonly topViolators: readonly Violator[];
  /** Undefined for a limiter without bans. */
  readonly bans: BansInForce | undefined;
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
  if (first === undefined) return asJson ? json(list().map(listedJson)) : listText(list());
  return asJson ? json(detailsJson(details(first))) : detailsText(details(first));
}

function remove(name: string): string {
  if (removeShared(name)) return `removed ${name}\n`;
  throw absent(name);
}

function list(): Listed[] {
  const files = selectSharedFiles();
  return files.names().flatMap((name): Listed[] => {
    try {
      const file = files.inspect(files.pathOf(name));
      return file === undefined ? [] : [{ name, file }];
    } catch (error) {
      return [{ name, error: error as LimiterError }];
    }
  });
}

function details(name: string): Details {
  const files = selectSharedFiles();
  const file = files.inspect(files.pathOf(name));
  if (file === undefined) throw absent(name);
  const Limiter = (CLASSES as Record<string, (typeof CLASSES)[keyof typeof CLASSES]>)[file.limiter];
  if (Limiter === undefined) {
    throw invalidValue('ERR_LIMITER_SHARED', 'the limiter', file.limiter, 'one of this version');
  }
  // This limiter is not in the file that was looked at before it joined.
  const limiter = new Limiter({ ...file.config, engine: 'native', shared: file.path });
  try {
    const { totalViolations, topViolators } = limiter.getOverview();
    const bans = 'getBans' in limiter ? limiter.getBans(MOST_BANS) : undefined;
    return { name, file, totalViolations, topViolators, bans };
  } finally {
    limiter.close();
    limiter.close();
  }
}

function absent(name: string): Error {
  return invalidValue('ERR_LIMITER_SHARED', 'the table', name, 'one that exists');
}

function listText(listed: readonly Listed[]): string {
  if (listed.length === 0) return 'There are no shared tables of this user.\n';
  const head = ['name', 'limiter', 'peers', 'of', 'size', 'attached', 'created'];
  const rows = listed.map((each) => {
    if ('error' in each) return [each.name, each.error.message];
    const { limiter, peers, config, bytes, attached, createdAt } = each.file;
    return [
      each.name,
      limiter,
      count(peers),
      count(config['maxPeers'] as number),
      size(bytes),
      count(attached.length),
      instant(createdAt),
    ];
  });
  return table([head, ...rows], new Set([2, 3, 4, 5]));
}

function detailsText({ name, file, totalViolations, topViolators, bans }: Details): string {
  const { config, peers, attached } = file;
  const { maxPeers = 0, ...limits } = config;
  const rows: [title: string, lines: string[]][] = [
    [name, [`a ${file.limiter} in ${file.path}`]],
    ['created', [instant(file.createdAt)]],
    ['limits', Object.entries(limits).map(([option, value]) => `${option} ${value}`)],
    ['peers', [`${count(peers)} of ${count(maxPeers)}: ${percent(peers / maxPeers)}`]],
    ['size', [`${size(file.bytes)}, and up to ${size(file.maxBytes)} with the keys of offenders`]],
    ['attached', attached.length === 0 ? ['none'] : attached.map(attachedText)],
    ['violations', [count(totalViolations), ...violatorLines(topViolators)]],
  ];
  if (bans !== undefined) rows.push(['bans', [count(bans.count), ...banLines(bans)]]);
  return table(
    rows.flatMap(([title, lines]) => lines.map((line, n) => [n === 0 ? title : '', line])),
    new Set(),
  );
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

function listedJson(listed: Listed): object {
  if ('file' in listed) return { name: listed.name, ...listed.file };
  const { code, message } = listed.error;
  return { name: listed.name, error: { code, message } };
}

function detailsJson({ file, ...details }: Details): object {
  return { ...file, ...details };
}
