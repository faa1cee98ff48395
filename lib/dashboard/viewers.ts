// The open streams of server-sent events. However slowly one is read, no more waits for it than the
// message that filled its socket: what comes meanwhile it misses.

import type { IncomingMessage, ServerResponse } from 'node:http';

/** Streams at once; each costs a connection. */
export const MOST_VIEWERS = 20;
/** Milliseconds after which one that reads nothing is cut off. */
const PATIENCE = 30_000;

/** Milliseconds after which a browser that lost its stream asks for another. */
const RETRY = 1000;

interface Viewer {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Since when its socket has been full, by performance.now(); undefined: it takes more. */
  fullSince: number | undefined;
}

export class Viewers {
  readonly #viewers = new Set<Viewer>();

  get size(): number {
    return this.#viewers.size;
  }

  get isFull(): boolean {
    return this.#viewers.size >= MOST_VIEWERS;
  }

  /** Begins a stream, whose headers are written, with a message, unless its client has gone already. */
  add(request: IncomingMessage, response: ServerResponse, event: string, data: unknown): void {
    // Then `close` has come and gone, and its place would never be free again.
    if (isGone(response)) return;
    const viewer: Viewer = { request, response, fullSince: undefined };
    this.#viewers.add(viewer);
    response.on('close', () => this.#viewers.delete(viewer));
    // A connection that breaks: `close` follows.
    response.on('error', () => {});
    response.on('drain', () => {
      viewer.fullSince = undefined;
    });
    write(viewer, `retry: ${RETRY}\n${message(event, data)}`);
  }

  /** Tells all who can take it. */
  send(event: string, data: unknown): void {
    if (this.#viewers.size === 0) return;
    const text = message(event, data);
    for (const viewer of this.#viewers) {
      if (isServerClosing(viewer.request)) viewer.response.end();
      else if (viewer.fullSince === undefined) write(viewer, text);
      else if (performance.now() - viewer.fullSince > PATIENCE) viewer.response.destroy();
    }
  }

  close(): void {
    for (const { response, fullSince } of this.#viewers) {
      // The end of one that is not read would never be sent.
      if (fullSince === undefined) response.end();
      else response.destroy();
    }
  }
}

function isGone({ destroyed, socket }: ServerResponse): boolean {
  return destroyed || (socket?.destroyed ?? true);
}

function message(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

function write(viewer: Viewer, text: string): void {
  if (!viewer.response.write(text)) viewer.fullSince = performance.now();
}

/** A server that is closing waits for its connections, and a stream would never end by itself. */
function isServerClosing({ socket }: IncomingMessage): boolean {
  return (socket as { server?: { listening?: boolean } }).server?.listening === false;
}
