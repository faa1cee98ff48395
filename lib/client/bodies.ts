// Bodies of requests and responses: the streams of the web, those of Node (node-fetch, undici), and bodies that an
// implementation of fetch does not show (React Native).

import { hasMethods } from '../common/kinds.js';
import { onAbort } from './deadline.js';

/** A readable stream of Node. */
interface NodeStream extends AsyncIterable<unknown> {
  readonly errored?: unknown;
  on(event: string, listener: (value?: unknown) => void): unknown;
  removeListener(event: string, listener: (value?: unknown) => void): unknown;
  resume(): unknown;
  destroy(error?: Error): unknown;
}

/** The part of a `Response` that reading its body needs. Only some implementations of fetch have each of them. */
export interface BodyOwner {
  readonly body?: unknown;
  clone?(): BodyOwner;
  text?(): Promise<string>;
}

/** How much of a body is read at most. */
export interface ReadLimits {
  readonly maxBytes: number;
  readonly seconds: number;
  readonly signal: AbortSignal | undefined;
}

/** An unread body of more bytes is not read to its end: its connection is closed instead. */
const MAX_DRAINED_BYTES = 1_048_576;

export function isNodeStream(body: unknown): body is NodeStream {
  return hasMethods(body, 'on', 'removeListener', 'resume', 'destroy');
}

/**
 * Calls `onError` if a body that is a stream of Node fails before anything reads it. If nothing listened, its error
 * would end the process. Returns a function that cancels this.
 */
export function watchBody(body: unknown, onError: (error: unknown) => void): () => void {
  if (!isNodeStream(body)) return () => {};
  if (body.errored) onError(body.errored);
  body.on('error', onError);
  return () => void body.removeListener('error', onError);
}

/** Closes a body that will never be sent, if it is a stream of Node: it may hold a file open. */
export function destroyBody(body: unknown): void {
  if (!isNodeStream(body)) return;
  body.on('error', () => {});
  body.destroy();
}

/** Frees the connection of a response that no one will read. */
export function discardBody(body: unknown): void {
  if (isNodeStream(body)) {
    drain(body);
    return;
  }
  if (!hasMethods(body, 'cancel')) return;
  // Rejects if the body is locked: then someone reads it.
  (body as ReadableStream).cancel().catch(() => {});
}

// Destroying the body of node-fetch 2 would leave its connection open, and paused, for ever.
function drain(body: NodeStream): void {
  let bytes = 0;
  body.on('error', () => {});
  body.on('data', (chunk) => {
    bytes += (chunk as Uint8Array).length;
    if (bytes > MAX_DRAINED_BYTES) body.destroy();
  });
  body.resume();
}

/**
 * Returns the text of a response's body; an empty text if the body cannot be read, breaks off or exceeds a limit. The
 * caller can still read the response.
 */
export async function peekText(response: BodyOwner, limits: ReadLimits): Promise<string> {
  try {
    const copy = response.clone?.();
    return copy === undefined ? '' : await readText(copy, limits);
  } catch {
    return '';
  }
}

async function readText(copy: BodyOwner, limits: ReadLimits): Promise<string> {
  const { maxBytes, seconds, signal } = limits;
  const chunks = chunksOf(copy);
  const decoder = new TextDecoder();
  let text = '';
  let stop = (): void => {};
  const stopped = new Promise<undefined>((resolve) => {
    stop = () => resolve(undefined);
  });
  const timer = setTimeout(stop, seconds * 1000);
  const removeAbortCallback = onAbort(signal, stop);
  try {
    for (let bytes = 0; bytes <= maxBytes; ) {
      const chunk = await Promise.race([chunks.next(), stopped]);
      if (chunk === undefined) break;
      if (chunk.done) return text + decoder.decode();
      const { value } = chunk;
      bytes += value.length;
      text += typeof value === 'string' ? value : decoder.decode(value, { stream: true });
    }
    // Not awaited: when a body has two branches, cancelling the first waits until the second is cancelled too.
    chunks.cancel();
    return '';
  } finally {
    clearTimeout(timer);
    removeAbortCallback();
  }
}

type Chunk = { done?: false; value: Uint8Array | string } | { done: true };

/** The pieces of a body, one after the other. */
interface Chunks {
  next(): Promise<Chunk>;
  cancel(): void;
}

function chunksOf(response: BodyOwner): Chunks {
  const { body } = response;
  if (isNodeStream(body)) {
    const iterator = body[Symbol.asyncIterator]();
    return { next: () => iterator.next() as Promise<Chunk>, cancel: () => void body.destroy() };
  }
  if (hasMethods(body, 'getReader')) {
    const reader = (body as ReadableStream).getReader();
    return {
      next: () => reader.read() as Promise<Chunk>,
      cancel: () => void reader.cancel().catch(() => {}),
    };
  }
  let isRead = false;
  return {
    async next() {
      if (isRead) return { done: true };
      isRead = true;
      return { value: (await response.text?.()) ?? '' };
    },
    cancel() {},
  };
}
