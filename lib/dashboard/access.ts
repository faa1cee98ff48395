// Access control of the dashboard. Without a token it serves only browsers on this machine that use a local host name,
// so that neither a proxy nor a foreign page with DNS rebinding gets in. With a token it serves any client that has it.

import { createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

export type AccessDenial = { readonly status: 401 | 403; readonly why: string };

const NOT_LOCAL =
  'This dashboard has no token, so it answers only this machine, as localhost or 127.0.0.1.';
/** Headers that only proxies send, besides those that begin with `x-forwarded`. */
const PROXY_HEADERS = new Set([
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
    // Cookies are shared by all ports of a host, so two dashboards of one host need different names.
    this.#cookieName = `relay-limiter-${this.#derive('name').slice(0, 8)}`;
  }

  /** Returns why a request must not see statistics; undefined if it may. */
  refuse(request: IncomingMessage): AccessDenial | undefined {
    if (this.#token === undefined) {
      return isLocal(request) ? undefined : { status: 403, why: NOT_LOCAL };
    }
    const bearer = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
    if (bearer !== undefined && this.accepts(bearer)) return undefined;
    const cookie = cookieOf(request, this.#cookieName);
    if (cookie !== undefined && isSame(cookie, this.#derive('cookie'))) return undefined;
    return { status: 401, why: 'This dashboard needs its token.' };
  }

  accepts(token: string): boolean {
    return this.#token !== undefined && isSame(token, this.#token);
  }

  /** Returns the `Set-Cookie` value that replaces the token for all requests below `path`. */
  cookie(path: string, secure: boolean): string {
    // Not Strict: browsers do not send a Strict cookie after a link with the token is followed from another site.
    const attributes = `Path=${path}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`;
    return `${this.#cookieName}=${this.#derive('cookie')}; ${attributes}`;
  }

  /** A value that does not reveal the token and is the same after a restart. */
  #derive(use: string): string {
    return createHmac('sha256', this.#token ?? '')
      .update(`relay-limiter dashboard ${use}`)
      .digest('hex');
  }
}

/** Whether a page of another origin has sent this request. Clients other than browsers send no origin. */
export function isCrossOrigin(request: IncomingMessage): boolean {
  // Browsers set this field themselves; unlike Host, proxies do not change it.
  const site = request.headers['sec-fetch-site'];
  if (site !== undefined) return site !== 'same-origin' && site !== 'none';
  const { origin } = request.headers;
  if (origin === undefined) return false;
  return !URL.canParse(origin) || new URL(origin).host !== hostOf(request);
}

/** Whether an address to listen on is reachable only from this machine. */
export function isLoopbackHost(host: string): boolean {
  return /^(localhost|::1|127(\.\d{1,3}){3})$/i.test(host);
}

function isLocal(request: IncomingMessage): boolean {
  const address = request.socket.remoteAddress ?? '';
  const name = hostOf(request).replace(/:\d+$/, '');
  return (
    isLoopbackHost(address.replace(/^::ffff:/i, '')) &&
    isLoopbackHost(name.replace(/^\[(.*)\]$/, '$1')) &&
    !Object.keys(request.headers).some(isProxyHeader)
  );
}

function isProxyHeader(header: string): boolean {
  return PROXY_HEADERS.has(header) || header.startsWith('x-forwarded');
}

function hostOf(request: IncomingMessage): string {
  return request.headers.host ?? String(request.headers[':authority'] ?? '');
}

function cookieOf(request: IncomingMessage, name: string): string | undefined {
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Compares in constant time. */
function isSame(given: string, expected: string): boolean {
  const digest = (text: string) => createHmac('sha256', 'compare').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}
