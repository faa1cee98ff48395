// Passes the bans of a limiter on to another program, such as a firewall. The program runs once at a time; bans that
// begin meanwhile wait in a bounded queue, and the next run gets all of them.

import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setImmediate } from 'node:timers/promises';
import { BAN_CHANNEL, type BanMessage } from 'relay-limiter';
import { type AddressKeyOptions, addressKey } from 'relay-limiter/address';

/** `ipv4Subnet` and `ipv6Subnet` are those of the limiter's keys. Keys that are no such network are skipped. */
export interface BanOptions extends AddressKeyOptions {
  limiter: object;
  /** The scope, if the limiter is a RuleLimiter. Bans of other scopes are skipped. */
  scope?: string;
  /** The maximum number of bans that wait for a run. Default 10,000. Further bans are lost, and reported. */
  maxQueued?: number;
  /** Called for a run that failed, and for bans that were lost. The limiter itself still refuses these peers. */
  onError: (error: unknown) => void;
}

/** A network and the whole seconds for which it is banned from now on: Infinity for ever, 0 if the ban was lifted. */
export interface Change {
  readonly network: string;
  readonly seconds: number;
}

/** For bans that are not on the channel: those by hand, and those in force when the process starts. */
export interface BanFeed {
  /** False if the key is no network, `seconds` is not greater than 0, or the queue is full. */
  ban(key: string, seconds: number): boolean;
  unban(key: string): boolean;
  /** Stops following the limiter. Resolves when the last run has ended. */
  close(): Promise<void>;
}

export function followBans(
  options: BanOptions,
  send: (changes: readonly Change[]) => Promise<unknown>,
): BanFeed {
  const { limiter, scope, maxQueued = 10_000, onError, ...subnets } = options;
  /** The ends of bans in milliseconds of `performance.now`, by network; 0 for a lifted ban. */
  const queue = new Map<string, number>();
  let lost = 0;
  let runs: Promise<void> | undefined;

  async function runWhileQueued(): Promise<void> {
    // Bans that begin in the same turn of the event loop share a run.
    await setImmediate();
    while (queue.size > 0) {
      const changes = takeChanges(queue);
      if (lost > 0) onError(new Error(`${lost} bans were lost: ${maxQueued} were waiting`));
      lost = 0;
      await send(changes).catch(onError);
    }
    runs = undefined;
  }

  function add(key: string, end: number): boolean {
    if (!isNetwork(key, subnets)) return false;
    const hasRoom = queue.has(key) || queue.size < maxQueued;
    if (hasRoom) queue.set(key, end);
    else lost += 1;
    runs ??= runWhileQueued();
    return hasRoom;
  }

  const feed: BanFeed = {
    ban: (key, seconds) => seconds > 0 && add(key, performance.now() + seconds * 1000),
    unban: (key) => add(key, 0),
    close: async () => {
      unsubscribe(BAN_CHANNEL, follow);
      await runs;
    },
  };

  function follow(message: unknown): void {
    const { key, banDuration, ...from } = message as BanMessage;
    if (from.limiter === limiter && from.scope === scope) feed.ban(key, banDuration);
  }
  subscribe(BAN_CHANNEL, follow);
  return feed;
}

/** Runs a program without a shell, and writes `input` to its standard input. Rejects if the program fails. */
export function run(command: string, args: readonly string[], input = ''): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { timeout: 60_000 }, (error) =>
      error === null ? resolve() : reject(error),
    );
    // A program that fails may not read its input; its exit code is the error to report.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

/** Only the canonical text of a network passes, so the program gets digits, hexadecimal letters, `.`, `:` and `/`. */
function isNetwork(key: string, subnets: AddressKeyOptions): boolean {
  try {
    return addressKey(key.replace(/\/\d+$/, ''), subnets) === key;
  } catch {
    return false;
  }
}

function takeChanges(queue: Map<string, number>): Change[] {
  const now = performance.now();
  const changes = Array.from(queue, ([network, end]): Change => {
    return { network, seconds: Math.max(0, Math.ceil((end - now) / 1000)) };
  });
  queue.clear();
  return changes;
}
