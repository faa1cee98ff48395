// A snapshot as the bytes of a file, and back: all of it or an error. Knows no files.
//
// The text is JSON whose first lines are for people. Every byte is accounted for: the checksum is of the
// time and the snapshot, and the rest can only be what it is.

import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { limiterError } from '../errors.js';

/** Whatever can write down what it knows, and take it back: all limiters, and `PolicyLimiter`. */
export interface Persistent {
  /** Plain data that JSON keeps, and that stays as it is. */
  snapshot(): object;
  /** Takes it back, or throws and changes nothing; a number is how many peers came back. */
  restore(snapshot: object): unknown;
}

export interface Saved {
  /** Wall clock, milliseconds since 1970. */
  readonly savedAt: number;
  readonly snapshot: object;
}

const BEFORE_TIME = '{\n"format": 1,\n"savedAt": ';
const BEFORE_CHECKSUM = ',\n"sha256": "';
const BEFORE_SNAPSHOT = '",\n"snapshot": ';
const END = '\n}\n';

/** What comes before the snapshot, the time and the checksum taken out. */
const HEAD = new RegExp(
  `^${BEFORE_TIME}(\\d{1,16})${BEFORE_CHECKSUM}([0-9a-f]{64})${BEFORE_SNAPSHOT}`,
);
const MOST_HEAD = 200;

/** Peers that are written down in one go: about a millisecond. */
const SLICE = 1000;

/** The parts of the file, in order. Between slices of many peers everybody else has their turn. */
export async function writeDocument({ savedAt, snapshot }: Saved): Promise<Uint8Array[]> {
  const hash = createHash('sha256').update(`${savedAt}\n`);
  const parts: Uint8Array[] = [];
  for (const text of slicesOf(snapshot)) {
    if (parts.length > 0) await setImmediate();
    const part = Buffer.from(text);
    hash.update(part);
    parts.push(part);
  }
  const head = `${BEFORE_TIME}${savedAt}${BEFORE_CHECKSUM}${hash.digest('hex')}${BEFORE_SNAPSHOT}`;
  return [Buffer.from(head), ...parts, Buffer.from(END)];
}

/** The snapshot's JSON, its peers last. */
function* slicesOf(snapshot: object): Generator<string> {
  const { peers, ...others } = snapshot as { peers?: unknown };
  if (!Array.isArray(peers) || peers.length <= SLICE) {
    yield JSON.stringify(snapshot);
    return;
  }
  const before = JSON.stringify({ ...others, peers: [] }).slice(0, -']}'.length);
  for (let at = 0; at < peers.length; at += SLICE) {
    const slice = JSON.stringify(peers.slice(at, at + SLICE)).slice(1, -1);
    yield at === 0 ? before + slice : `,${slice}`;
  }
  yield ']}';
}

/** @throws `ERR_LIMITER_SNAPSHOT` for whatever `writeDocument` has not written. */
export function readDocument(bytes: Uint8Array, name: string): Saved {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const head = HEAD.exec(text.toString('latin1', 0, MOST_HEAD));
  if (head === null) throw damaged(name, 'it does not begin as one');
  const [{ length }, time, sum] = head as unknown as [string, string, string];
  const json = text.subarray(length, text.length - END.length);
  if (text.toString('latin1', length + json.length) !== END) throw damaged(name, 'it is cut off');
  if (checksum(time, json) !== sum) throw damaged(name, 'its checksum is another');
  return { savedAt: Number(time), snapshot: parse(json.toString(), name) };
}

function checksum(time: string, json: string | Uint8Array): string {
  return createHash('sha256').update(`${time}\n`).update(json).digest('hex');
}

function parse(json: string, name: string): object {
  let snapshot: unknown;
  try {
    snapshot = JSON.parse(json);
  } catch (cause) {
    throw damaged(name, 'it is no JSON', cause);
  }
  if (typeof snapshot !== 'object' || snapshot === null) throw damaged(name, 'it holds none');
  return snapshot;
}

function damaged(name: string, why: string, cause?: unknown): Error {
  const message = `${name} is no snapshot, or a damaged one: ${why}`;
  return limiterError(Error, 'ERR_LIMITER_SNAPSHOT', message, cause);
}
