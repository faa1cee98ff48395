// Reads what a POST to `lift` asks for: a small JSON body, already parsed or not.

import type { IncomingMessage } from 'node:http';
import type { Lift } from './messages.js';

const MOST_BYTES = 65_536;

/**
 * Throws where the body was read by somebody who kept it, as Fastify does: nothing more would come, and
 * whoever waits for it would wait for ever.
 */
export function requireBody(request: IncomingMessage): void {
  if (!request.readableDidRead || (request as { body?: unknown }).body !== undefined) return;
  throw new Error('the body of a request has been read; hand it on as request.body');
}

/** What is asked for; the status of the answer where that cannot be read. */
export async function readLift(request: IncomingMessage): Promise<Lift | 400 | 413 | 415> {
  // A form of someone else's page can send other types without asking first.
  const [type] = (request.headers['content-type'] ?? '').split(';');
  if (type?.trim().toLowerCase() !== 'application/json') return 415;
  // Frameworks read bodies before their handlers are called.
  const { body } = request as { body?: unknown };
  if (body !== undefined) return liftOf(body);
  const text = await readText(request);
  if (text === undefined) return 413;
  try {
    return liftOf(JSON.parse(text));
  } catch {
    return 400;
  }
}

function liftOf(value: unknown): Lift | 400 {
  if (typeof value !== 'object' || value === null) return 400;
  const { limiter, key, hash } = value as Partial<Lift>;
  if (typeof limiter !== 'string' || typeof key !== 'string') return 400;
  return hash === undefined || typeof hash === 'string' ? { limiter, key, hash } : 400;
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
