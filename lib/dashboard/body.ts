// Reads the body of a POST request: a small JSON object, which a framework may have parsed already.

import type { IncomingMessage } from 'node:http';
import { isRecord } from '../common/kinds.js';

const MAX_BYTES = 65_536;

/** The status code of the response if a body cannot be read. */
export type BodyStatus = 400 | 413 | 415;

export type Body = Readonly<Record<string, unknown>>;

/**
 * Throws if other code has read the body without setting `request.body`. Frameworks such as Fastify do so; waiting for
 * the body would never end.
 */
export function requireBody(request: IncomingMessage): void {
  if (!request.readableDidRead || (request as { body?: unknown }).body !== undefined) return;
  throw new Error(
    'request.body must be set if other code has read the body of the request, got undefined',
  );
}

/** Returns the object in the body, or the status code of the response if the body cannot be read. */
export async function readBody(request: IncomingMessage): Promise<Body | BodyStatus> {
  // A form on a foreign page can send other content types without a CORS preflight.
  const [type] = (request.headers['content-type'] ?? '').split(';');
  if (type?.trim().toLowerCase() !== 'application/json') return 415;
  // Frameworks parse the body before they call the handler.
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
  // Leaving the loop must not destroy the connection: the response is sent on it.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    bytes += (chunk as Buffer).length;
    if (bytes > MAX_BYTES) return undefined;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}
