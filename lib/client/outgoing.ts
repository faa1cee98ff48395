// A request as it was given to fetch: what is known of it before it goes, and how it goes, perhaps
// several times, perhaps to another host than the one it names.

import { refused } from '../common/errors.js';

type Fetch = typeof globalThis.fetch;
type Input = Parameters<Fetch>[0];
type Init = Parameters<Fetch>[1];
export type Send = (signal: AbortSignal | undefined) => Promise<Response>;

// By name, since other fetches bring classes of their own.
const REPEATABLE = ['ArrayBuffer', 'Blob', 'File', 'URLSearchParams', 'FormData'];

export class Outgoing {
  /** As it was given: relative, perhaps. */
  readonly url: string;
  /** In upper case. */
  readonly method: string;
  readonly signal: AbortSignal | undefined;
  /** Whether its body can be sent again: no stream. */
  readonly isRepeatable: boolean;
  readonly #input: Input;
  readonly #init: Init;
  readonly #request: Request | undefined;
  /** What of its URL counts where it goes to nodes. */
  readonly #path: string | undefined;

  /** @throws `ERR_LIMITER_OPTION` for a URL that cannot go to nodes, and what URL throws */
  constructor(input: Input, init: Init, toNodes: boolean) {
    const request = isRequest(input) ? input : undefined;
    this.url = request?.url ?? String(input);
    this.method = (init?.method ?? request?.method ?? 'GET').toUpperCase();
    const signal = init?.signal === undefined ? request?.signal : init.signal;
    this.signal = signal ?? undefined;
    this.isRepeatable = isRepeatable(init?.body);
    this.#input = input;
    this.#init = init;
    this.#request = request;
    this.#path = toNodes ? pathOf(this.url) : undefined;
  }

  /**
   * What sends it with a signal, to `origin` if there is one. Unless it is for the last time, the body of a
   * Request is kept in memory.
   * @throws TypeError where its body has been read
   */
  prepare(fetch: Fetch, origin: string | undefined, isLast: boolean): Send {
    // Not resolved, since a path that begins with two slashes would name a host.
    const target = origin === undefined ? undefined : `${origin}${this.#path}`;
    const input = this.#requestTo(target, isLast) ?? target ?? this.#input;
    return (signal) => {
      // The signal of a Request made here is tied to the given one only as long as somebody keeps it.
      const isOwn = signal === this.signal && input === this.#input;
      return fetch(input, isOwn ? this.#init : { ...this.#init, signal: signal ?? null });
    };
  }

  /**
   * Whether `error`, which fetch rejected with, says that it can never be sent: a URL that is none, a GET
   * with a body, a name of a field with a space. fetch makes a Request first.
   */
  cannotGo(error: unknown): boolean {
    const { name, cause } = Object(error) as { name?: unknown; cause?: unknown };
    if (name !== 'TypeError') return false;
    if ((Object(cause) as { code?: unknown }).code === 'ERR_INVALID_URL') return true;
    const { body } = this.#init ?? {};
    try {
      // Any URL and no signal, since of these nothing is to be found out. A stream is the caller's own.
      new Request('https://node', {
        ...this.#init,
        method: this.method,
        body: this.isRepeatable ? (body ?? null) : new ReadableStream(),
        signal: null,
      });
      return false;
    } catch {
      return true;
    }
  }

  #requestTo(target: string | undefined, isLast: boolean): Request | undefined {
    const given = this.#request;
    if (given === undefined) return undefined;
    const isReplaced = (this.#init?.body ?? null) !== null;
    if (!isReplaced && (given.bodyUsed || given.body?.locked)) {
      throw new TypeError('the body of the Request has been read, or is being read');
    }
    const request = isLast || isReplaced ? given : given.clone();
    if (target === undefined) return request;
    const SameRequest = request.constructor as typeof Request;
    return new SameRequest(target, request);
  }
}

function pathOf(url: string): string {
  const { protocol, pathname, search, hash } = new URL(url, 'https://node');
  if (!/^https?:$/.test(protocol)) {
    throw refused('ERR_LIMITER_OPTION', 'the URL of a request', url, 'a path, or of http or https');
  }
  return pathname + search + hash;
}

function isRequest(input: Input): input is Request {
  return typeof input === 'object' && 'url' in input && 'clone' in input;
}

function isRepeatable(body: unknown): boolean {
  if (body === undefined || body === null || typeof body === 'string') return true;
  if (ArrayBuffer.isView(body)) return true;
  return REPEATABLE.includes(Object.prototype.toString.call(body).slice(8, -1));
}
