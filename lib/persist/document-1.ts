// Reads file format 1, a single snapshot, which versions up to 0.1.0 wrote. document.ts reads format 2.

import { createHash } from 'node:crypto';
import { damaged } from './damaged.js';
import type { Saved } from './saved.js';

const BEFORE_TIME = '{\n"format": 1,\n"savedAt": ';
const BEFORE_CHECKSUM = ',\n"sha256": "';
const BEFORE_SNAPSHOT = '",\n"snapshot": ';
const END = '\n}\n';

/** Everything before the snapshot. Captures the time and the checksum. */
const HEAD = new RegExp(
  `^${BEFORE_TIME}(\\d{1,16})${BEFORE_CHECKSUM}([0-9a-f]{64})${BEFORE_SNAPSHOT}`,
);
const MAX_HEAD_BYTES = 200;

/** @throws `ERR_LIMITER_SNAPSHOT` for bytes that are not a complete document of format 1. */
export function readDocument1(bytes: Buffer, name: string): Saved {
  const head = HEAD.exec(bytes.toString('latin1', 0, MAX_HEAD_BYTES));
  if (head === null) throw damaged(name, 'missing header');
  const [{ length }, time, sum] = head as unknown as [string, string, string];
  const json = bytes.subarray(length, bytes.length - END.length);
  if (bytes.toString('latin1', length + json.length) !== END) throw damaged(name, 'missing end');
  if (createHash('sha256').update(`${time}\n`).update(json).digest('hex') !== sum) {
    throw damaged(name, 'checksum mismatch');
  }
  return { savedAt: Number(time), snapshot: parse(json.toString(), name) };
}

function parse(json: string, name: string): object {
  let snapshot: unknown;
  try {
    snapshot = JSON.parse(json);
  } catch (cause) {
    throw damaged(name, 'invalid JSON', cause);
  }
  if (typeof snapshot !== 'object' || snapshot === null)
    throw damaged(name, 'the snapshot is no object');
  return snapshot;
}
