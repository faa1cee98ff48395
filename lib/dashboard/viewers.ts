// The open streams of server-sent events. At most one message is buffered for a slow reader: it misses the messages
// that are sent while its socket is full.

import type { IncomingMessage, ServerResponse } from 'node:http';

/** The maximum number of simultaneous streams. Each one uses a connection. */
export const MAX_VIEWERS = 20;
/** Milliseconds after which a stream that reads nothing is closed. */
const STALL_TIMEOUT_MS = 30_000;

/** Milliseconds after which a browser reopens a lost stream. */
const RETRY_MS = 1000;

interface Viewer {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The time at which the socket became full, by performance.now(); undefined if it is not full. */
  fullSince: number | undefined;
}

export class Viewers {
  readonly #viewers = new Set<Viewer>();

  get size(): number {
    return this.#viewers.size;
  }

  get isFull(): boolean {
    return this.#viewers.size >= MAX_VIEWERS;
  }

  /** Starts a stream with a message, unless its client has disconnected. The headers must be written already. */
  add(request: IncomingMessage, response: ServerResponse, event: string, data: unknown): void {
    // The event `close` has been emitted already, so the stream would never be removed.
    if (isDisconnected(response)) return;
    const viewer: Viewer = { request, response, fullSince: undefined };
    this.#viewers.add(viewer);
    response.on('close', () => this.#viewers.delete(viewer));
    // If the connection breaks, `close` follows.
    response.on('error', () => {});
    response.on('drain', () => {
      viewer.fullSince = undefined;
    });
    write(viewer, `retry: ${RETRY_MS}\n${message(event, data)}`);
  }

  /** Sends a message to all streams that are not full. */
  send(event: string, data: unknown): void {
    if (this.#viewers.size === 0) return;
    const text = message(event, data);
    for (const viewer of this.#viewers) {
      if (isServerClosing(viewer.request)) viewer.response.end();
      else if (viewer.fullSince === undefined) write(viewer, text);
      else if (performance.now() - viewer.fullSince > STALL_TIMEOUT_MS) viewer.response.destroy();
    }
  }

  close(): void {
    for (const { response, fullSince } of this.#viewers) {
      // The end of a stream that nobody reads would never be sent.
      if (fullSince === undefined) response.end();
      else response.destroy();
    }
  }
}

function isDisconnected({ destroyed, socket }: ServerResponse): boolean {
  return destroyed || (socket?.destroyed ?? true);
}

function message(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

function write(viewer: Viewer, text: string): void {
  if (!viewer.response.write(text)) viewer.fullSince = performance.now();
}

/** Whether the server is closing: it waits for its connections, and a stream never ends by itself. */
function isServerClosing({ socket }: IncomingMessage): boolean {
  return (socket as { server?: { listening?: boolean } }).server?.listening === false;
}
