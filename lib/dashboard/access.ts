// Who may look. Without a token: browsers of this machine alone, by a name of this machine, so that
// neither a proxy nor a page of someone else's that points its own name here gets in. With a token:
// whoever has it, from anywhere.

import { createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

export type Refusal = { readonly status: 401 | 403; readonly why: string };

const NOT_LOCAL =
  'This dashboard has no token, so it answers this machine alone, as localhost or 127.0.0.1.';
/** What only proxies send: these headers, and all of which the name begins with `x-forwarded`. */
const OF_PROXIES = new Set([
  'forwarded',
  'via',
  'x-real-ip',
  'x-client-ip',
  'cf-connecting-ip',
  'true-client-ip',
]);

export class Access {
  readonly #token: string | undefined;
  readonly #cookieName: string;

  constructor(token: string | undefined) {
    this.#token = token;
    // Cookies know no ports: two dashboards of one host must not overwrite each other's.
    this.#cookieName = `relay-limiter-${this.#derived('name').slice(0, 8)}`;
  }

  /** Why this request may see no figures, or undefined. */
  refuse(request: IncomingMessage): Refusal | undefined {
    if (this.#token === undefined) {
      return isLocal(request) ? undefined : { status: 403, why: NOT_LOCAL };
    }
    const bearer = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
    if (bearer !== undefined && this.accepts(bearer)) return undefined;
    const cookie = cookieOf(request, this.#cookieName);
    if (cookie !== undefined && isSame(cookie, this.#derived('cookie'))) return undefined;
    return { status: 401, why: 'This dashboard needs its token.' };
  }

  accepts(token: string): boolean {
    return this.#token !== undefined && isSame(token, this.#token);
  }

  /** The `Set-Cookie` that stands for the token, for all below `path`. */
  cookie(path: string, secure: boolean): string {
    // Not Strict: that one is not sent where a link with the token in it, followed from a chat, leads.
    const attributes = `Path=${path}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`;
    return `${this.#cookieName}=${this.#derived('cookie')}; ${attributes}`;
  }

  /** Tells nothing of the token, and is the same after a restart. */
  #derived(use: string): string {
    return createHmac('sha256', this.#token ?? '')
      .update(`relay-limiter dashboard ${use}`)
      .digest('hex');
  }
}

/** Whether a page of another origin's has sent this. What is no browser says nothing of origins. */
export function isCrossOrigin(request: IncomingMessage): boolean {
  // The browser itself says it, whatever a proxy makes of the host's name.
  const site = request.headers['sec-fetch-site'];
  if (site !== undefined) return site !== 'same-origin' && site !== 'none';
  const { origin } = request.headers;
  if (origin === undefined) return false;
  return !URL.canParse(origin) || new URL(origin).host !== hostOf(request);
}

/** Whether an address to listen on can be reached from this machine alone. */
export function isLoopbackHost(host: string): boolean {
  return /^(localhost|::1|127(\.\d{1,3}){3})$/i.test(host);
}

function isLocal(request: IncomingMessage): boolean {
  const address = request.socket.remoteAddress ?? '';
  const name = hostOf(request).replace(/:\d+$/, '');
  return (
    isLoopbackHost(address.replace(/^::ffff:/i, '')) &&
    isLoopbackHost(name.replace(/^\[(.*)\]$/, '$1')) &&
    !Object.keys(request.headers).some(isOfProxy)
  );
}

function isOfProxy(header: string): boolean {
  return OF_PROXIES.has(header) || header.startsWith('x-forwarded');
}

function hostOf(request: IncomingMessage): string {
  return request.headers.host ?? String(request.headers[':authority'] ?? '');
}

function cookieOf(request: IncomingMessage, name: string): string | undefined {
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** In a time that tells nothing of either but that they are not the same. */
function isSame(given: string, expected: string): boolean {
  const digest = (text: string) => createHmac('sha256', 'compare').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}
