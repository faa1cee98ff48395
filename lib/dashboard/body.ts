// Reads the body of a POST: a small JSON object, already parsed or not.

import type { IncomingMessage } from 'node:http';
import { isRecord } from '../common/kinds.js';

const MOST_BYTES = 65_536;

/** Why a body cannot be read: the status of the answer. */
export type BodyStatus = 400 | 413 | 415;

export type Body = Readonly<Record<string, unknown>>;

/**
 * Throws where the body was read by somebody who kept it, as Fastify does: nothing more would come, and
 * whoever waits for it would wait for ever.
 */
export function requireBody(request: IncomingMessage): void {
  if (!request.readableDidRead || (request as { body?: unknown }).body !== undefined) return;
  throw new Error('the body of a request has been read; hand it on as request.body');
}

/** The object that a request holds; the status of the answer where that cannot be read. */
export async function readBody(request: IncomingMessage): Promise<Body | BodyStatus> {
  // A form of someone else's page can send other types without asking first.
  const [type] = (request.headers['content-type'] ?? '').split(';');
  if (type?.trim().toLowerCase() !== 'application/json') return 415;
  // Frameworks read bodies before their handlers are called.
  const { body } = request as { body?: unknown };
  if (body !== undefined) return isRecord(body) ? body : 400;
  const text = await readText(request);
  if (text === undefined) return 413;
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : 400;
  } catch {
    return 400;
  }
}

async function readText(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // Leaving the loop must leave the connection, on which the answer goes.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    bytes += (chunk as Buffer).length;
    if (bytes > MOST_BYTES) return undefined;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}
