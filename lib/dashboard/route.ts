// Where a request leads, wherever the handler is mounted.

import type { IncomingMessage } from 'node:http';

export interface Route {
  /** The name of what is asked for, `''` for the page, and for what is elsewhere a name that is none. */
  readonly name: string;
  /** The page's folder was asked for without its slash, on which the page's own links stand. */
  readonly isFolderWithoutSlash: boolean;
  /** Of the whole path: its last segment, and, where the page was asked for, the page's folder. */
  readonly lastSegment: string;
  readonly folder: string;
  /** With its question mark. */
  readonly query: string;
  readonly token: string | undefined;
}

const ELSEWHERE = '/';

/** `path` is where the page is, without a slash at its end; `''` where `request.url` is below it. */
export function routeOf(request: IncomingMessage, path: string): Route {
  const url = split(request.url ?? '/');
  // Express and Connect take their prefix off, and keep the whole here.
  const { originalUrl } = request as { originalUrl?: string };
  const whole = originalUrl === undefined ? url.pathname : split(originalUrl).pathname;
  const slash = whole.lastIndexOf('/');
  return {
    name: nameOf(path === '' ? url.pathname : whole, path),
    isFolderWithoutSlash: !whole.endsWith('/'),
    lastSegment: whole.slice(slash + 1),
    folder: whole.endsWith('/') ? whole : `${whole}/`,
    query: url.query,
    // A token may have a plus in it, which in a form would be a space.
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
