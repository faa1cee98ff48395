// Maps the URL of a request to a part of the dashboard, for any path at which the handler is mounted.

import type { IncomingMessage } from 'node:http';

export interface Route {
  /** The requested name below the page's folder: `''` for the page, `'/'` (no valid name) for a URL outside of it. */
  readonly name: string;
  /** Whether the path has no trailing slash. The relative links of the page need one. */
  readonly isFolderWithoutSlash: boolean;
  /** The last segment of the whole path, and the folder of the page if the page is requested. */
  readonly lastSegment: string;
  readonly folder: string;
  /** The query with its question mark. */
  readonly query: string;
  readonly token: string | undefined;
}

const ELSEWHERE = '/';

/** `path` is the path of the page without a trailing slash; `''` if `request.url` is relative to the page. */
export function routeOf(request: IncomingMessage, path: string): Route {
  const url = split(request.url ?? '/');
  // Express and Connect remove their prefix from url, and keep the whole URL in originalUrl.
  const { originalUrl } = request as { originalUrl?: string };
  const whole = originalUrl === undefined ? url.pathname : split(originalUrl).pathname;
  const slash = whole.lastIndexOf('/');
  return {
    name: nameOf(path === '' ? url.pathname : whole, path),
    isFolderWithoutSlash: !whole.endsWith('/'),
    lastSegment: whole.slice(slash + 1),
    folder: whole.endsWith('/') ? whole : `${whole}/`,
    query: url.query,
    // A token may contain a plus, which URLSearchParams would decode as a space.
    token: new URLSearchParams(url.query.replaceAll('+', '%2B')).get('token') ?? undefined,
  };
}

function nameOf(pathname: string, path: string): string {
  if (pathname === path) return '';
  return pathname.startsWith(`${path}/`) ? pathname.slice(path.length + 1) : ELSEWHERE;
}

function split(url: string): { pathname: string; query: string } {
  const at = url.indexOf('?');
  return at < 0
    ? { pathname: url, query: '' }
    : { pathname: url.slice(0, at), query: url.slice(at) };
}
