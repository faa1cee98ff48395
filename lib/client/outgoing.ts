// A request as the caller gave it to fetch: what is known of it before it is sent, and how it is sent, possibly
// several times and to another host than that of its URL.

import { invalidValue } from '../common/errors.js';
import { isNodeStream } from './bodies.js';
import type { LimitedRequest } from './options.js';

type Fetch = typeof globalThis.fetch;
type Input = Parameters<Fetch>[0];
type Init = Parameters<Fetch>[1];
export type Send = (signal: AbortSignal | undefined) => Promise<Response>;

/** How requests are sent to a node of a pool. */
export interface Target {
  /** The origin, and the path that comes before that of the request. */
  readonly base: string;
  /** Headers that are set in each request. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Seconds in which the node must answer; undefined for the default. */
  readonly timeoutSeconds: number | undefined;
}

// Compared by name, because other implementations of fetch have classes of their own.
const REPEATABLE_BODIES = ['ArrayBuffer', 'Blob', 'File', 'URLSearchParams', 'FormData'];

export class OutgoingRequest implements LimitedRequest {
  /** The URL as the caller gave it; it may be relative. */
  readonly url: string;
  /** The method in upper case. */
  readonly method: string;
  /** The body as the caller gave it; undefined without one, and for the body of a Request. */
  readonly body: unknown;
  readonly signal: AbortSignal | undefined;
  /** Whether the body can be sent again; a stream cannot. */
  readonly isRepeatable: boolean;
  readonly #input: Input;
  readonly #init: Init;
  readonly #request: Request | undefined;
  /** Path, query and fragment of the URL, if the request goes to a node of a pool. */
  readonly #path: string | undefined;

  /**
   * @param goesToNode whether the request goes to a node of a pool instead of its URL's host
   * @throws ERR_LIMITER_OPTION for a URL that cannot go to a node, and what the URL constructor throws
   */
  constructor(input: Input, init: Init, goesToNode: boolean) {
    const request = isRequest(input) ? input : undefined;
    this.url = request?.url ?? String(input);
    this.method = (init?.method ?? request?.method ?? 'GET').toUpperCase();
    const signal = init?.signal === undefined ? request?.signal : init.signal;
    this.signal = signal ?? undefined;
    this.body = init?.body ?? undefined;
    this.isRepeatable = isRepeatable(this.body);
    this.#input = input;
    this.#init = init;
    this.#request = request;
    this.#path = goesToNode ? pathOf(this.url) : undefined;
  }

  /**
   * Returns a function that sends the request with a signal, to a node if that is defined. Unless `isLast`,
   * the body of a Request is kept in memory for the next attempt.
   * @throws TypeError if the body has been read
   */
  prepare(fetch: Fetch, node: Target | undefined, isLast: boolean): Send {
    // Concatenated, not resolved: the URL parser takes a path that begins with two slashes for a host.
    const target = node && `${node.base}${this.#path}`;
    const request = this.#requestTo(target, isLast);
    const input = request ?? target ?? this.#input;
    const init = this.#initFor(node, request);
    return (signal) => {
      // A Request that is made here follows the caller's signal only until it is garbage collected, so the
      // signal is passed explicitly.
      const isUnchanged = signal === this.signal && input === this.#input;
      return fetch(input, isUnchanged ? init : { ...init, signal: signal ?? null });
    };
  }

  /** Returns the caller's init with the headers of a node. */
  #initFor(node: Target | undefined, request: Request | undefined): Init {
    if (node === undefined || node.headers.length === 0) return this.#init;
    const headers = new Headers(this.#init?.headers ?? request?.headers);
    for (const [name, value] of node.headers) headers.set(name, value);
    return { ...this.#init, headers };
  }

  /**
   * Whether `error`, with which fetch rejected, means that the request can never be sent: its URL is invalid,
   * it is a GET with a body, or the name of a header contains a space. Such a request fails when fetch
   * constructs its Request.
   */
  isUnsendable(error: unknown): boolean {
    const { name, cause } = Object(error) as { name?: unknown; cause?: unknown };
    if (name !== 'TypeError') return false;
    if ((Object(cause) as { code?: unknown }).code === 'ERR_INVALID_URL') return true;
    try {
      // The test needs neither the real URL nor the signal. A stream belongs to the caller and must not be used
      // up, so another one replaces it.
      new Request('https://node', {
        ...this.#init,
        method: this.method,
        body: this.isRepeatable ? (this.#init?.body ?? null) : new ReadableStream(),
        signal: null,
      });
      return false;
    } catch (reason) {
      // A ReferenceError means that the runtime lacks these classes.
      return (reason as Error).name === 'TypeError';
    }
  }

  /** Whether the body is a stream of Node, whose errors someone must listen for. */
  get hasNodeStream(): boolean {
    return !this.isRepeatable && isNodeStream(this.body);
  }

  #requestTo(target: string | undefined, isLast: boolean): Request | undefined {
    const given = this.#request;
    if (given === undefined) return undefined;
    const hasOtherBody = (this.#init?.body ?? null) !== null;
    if (!hasOtherBody && (given.bodyUsed || given.body?.locked)) {
      throw new TypeError('the body of the Request has been read, or is being read');
    }
    const request = isLast || hasOtherBody ? given : given.clone();
    if (target === undefined) return request;
    const SameRequest = request.constructor as typeof Request;
    return new SameRequest(target, request);
  }
}

function pathOf(url: string): string {
  const { protocol, pathname, search, hash } = new URL(url, 'https://node');
  if (!/^https?:$/.test(protocol)) {
    const accepted = 'a path, or an http or https URL';
    throw invalidValue('ERR_LIMITER_OPTION', 'the URL of a request', url, accepted);
  }
  return pathname + search + hash;
}

function isRequest(input: Input): input is Request {
  return typeof input === 'object' && 'url' in input && 'clone' in input;
}

function isRepeatable(body: unknown): boolean {
  if (body === undefined || body === null || typeof body === 'string') return true;
  if (ArrayBuffer.isView(body)) return true;
  return REPEATABLE_BODIES.includes(Object.prototype.toString.call(body).slice(8, -1));
}
