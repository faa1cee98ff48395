// relay-limiter/dashboard: one page that shows what limiters do as they do it. A request handler serves
// it and a stream of server-sent events; figures leave this machine only to who has the token. Knows
// limiters by their public methods, and no framework.

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { limiterError } from '../common/errors.js';
import { detached } from '../common/timers.js';
import { Access, isCrossOrigin, isLoopbackHost } from './access.js';
import { type ActionName, Actions, banDurationOf, isAction, type Outcome } from './actions.js';
import { requireBody } from './body.js';
import { Feed, MOST_SAMPLES } from './feed.js';
import { pageFile, SECURITY_HEADERS, sendFile } from './files.js';
import type { Hello } from './messages.js';
import { type DashboardOptions, readSettings, type Settings } from './options.js';
import { type Route, routeOf } from './route.js';
import { Viewers } from './viewers.js';

export type { NamedLimiters, ObservableLimiter as WatchedLimiter } from '../limiters/stats.js';
export type { DashboardOptions } from './options.js';

/** Seconds between two events at the most, so that the page knows a server that hangs. */
const ALIVE_SECONDS = 3;

/** A request handler for node:http, Express and Connect. */
export interface Dashboard {
  (request: IncomingMessage, response: ServerResponse): void;
  /**
   * Serves the dashboard alone, on `port` (0, the default: a free one) of `host` (default 127.0.0.1),
   * and resolves with its address. Rejects if the port cannot be had.
   * @throws `ERR_LIMITER_OPTION` for a host other than this machine's own without a token, and where the
   * dashboard was closed, before or meanwhile.
   */
  listen(port?: number, host?: string): Promise<string>;
  /** Ends all streams, the sampling, and the servers of `listen`. Requests are answered with 503 from now on. */
  close(): void;
}

/**
 * A dashboard of the limiters. From now on their totals are read once every `intervalSeconds`, so that
 * who comes later sees the last minutes; who broke limits is looked up only while somebody watches. Both
 * are done less often where they would take more than a fiftieth of the time.
 * @throws `ERR_LIMITER_OPTION` for what is not accepted.
 */
export function createDashboard(options: DashboardOptions): Dashboard {
  const server = new DashboardServer(readSettings(options));
  return Object.assign(
    (request: IncomingMessage, response: ServerResponse) => server.handle(request, response),
    {
      listen: (port = 0, host = '127.0.0.1') => server.listen(port, host),
      close: () => server.close(),
    },
  );
}

/** Why a POST is answered so. */
const WHY: Readonly<Record<Extract<Outcome, number>, string>> = {
  204: '',
  400: 'This is no {"limiter":"...","key":"..."}, or the seconds of a ban are not accepted.',
  404: 'There is no such ban, or no such limiter that bans.',
  409: 'The limiter is full of banned peers.',
  413: 'This is too long.',
  415: 'JSON is what is read here, as application/json.',
  500: 'The limiter cannot answer.',
};

class DashboardServer {
  readonly #settings: Settings;
  readonly #access: Access;
  readonly #feed: Feed;
  readonly #actions: Actions;
  readonly #viewers = new Viewers();
  readonly #timers: readonly NodeJS.Timeout[];
  readonly #servers = new Set<Server>();
  #closed = false;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#access = new Access(settings.token);
    this.#feed = detached(() => new Feed(settings.limiters));
    this.#actions = new Actions(settings, this.#feed);
    this.#timers = detached(() => [
      setInterval(() => this.#tick(), settings.intervalSeconds * 1000).unref(),
      setInterval(() => this.#viewers.send('alive', null), ALIVE_SECONDS * 1000).unref(),
    ]);
  }

  async listen(port: number, host: string): Promise<string> {
    if (this.#settings.token === undefined && !isLoopbackHost(host)) {
      const message = `a dashboard without a token listens on this machine alone, not on ${host}`;
      throw limiterError(Error, 'ERR_LIMITER_OPTION', message);
    }
    const server = createServer((request, response) => this.handle(request, response));
    detached(() => server.listen(port, host));
    await once(server, 'listening');
    if (this.#closed) {
      server.close();
      throw limiterError(Error, 'ERR_LIMITER_OPTION', 'the dashboard is closed');
    }
    this.#servers.add(server);
    const { address, family, port: actual } = server.address() as AddressInfo;
    const name = family === 'IPv6' ? `[${address}]` : address;
    return `http://${name}:${actual}${this.#settings.path}/`;
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    this.#feed.close();
    this.#viewers.close();
    for (const server of this.#servers) server.close();
  }

  handle(request: IncomingMessage, response: ServerResponse): void {
    try {
      this.#answer(request, response);
    } catch (error) {
      // A request that cannot be answered must not end the user's server.
      process.emitWarning(`the dashboard cannot answer: ${error}`);
      refuse(response, 500, 'The dashboard cannot answer this.');
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    if (this.#closed) {
      refuse(response, 503, 'The dashboard is closed.');
      return;
    }
    const route = routeOf(request, this.#settings.path);
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    if (isAction(route.name)) this.#answerAction(request, response, route.name);
    else if (!isRead)
      refuse(response, 405, 'GET is what is answered here.', { Allow: 'GET, HEAD' });
    else if (route.name === 'events') this.#answerEvents(request, response);
    else if (route.name === '') this.#answerPage(request, response, route);
    else this.#answerFile(request, response, route.name);
  }

  #answerPage(request: IncomingMessage, response: ServerResponse, route: Route): void {
    const folder = route.isFolderWithoutSlash ? `./${route.lastSegment}/` : './';
    if (route.token !== undefined && this.#access.accepts(route.token)) {
      // Off it goes, so that it stays in no history and no log of the next requests.
      const secure = 'encrypted' in request.socket;
      redirect(response, folder, { 'Set-Cookie': this.#access.cookie(route.folder, secure) });
      return;
    }
    const refusal = this.#access.refuse(request);
    if (refusal?.status === 403) refuse(response, 403, refusal.why);
    else if (route.isFolderWithoutSlash) redirect(response, folder + route.query);
    else if (refusal !== undefined) this.#answerFile(request, response, 'token.html', 401);
    else this.#answerFile(request, response, 'index.html');
  }

  #answerFile(
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
    status = 200,
  ): void {
    const file = pageFile(name);
    if (file === undefined) refuse(response, 404, 'There is nothing here.');
    else sendFile(request, response, status, file);
  }

  #answerEvents(request: IncomingMessage, response: ServerResponse): void {
    if (this.#isRefused(request, response)) return;
    if (this.#viewers.isFull) {
      refuse(response, 503, 'Too many look at this already.', { 'Retry-After': '10' });
      return;
    }
    response.writeHead(200, {
      ...SECURITY_HEADERS,
      'Content-Type': 'text/event-stream',
      // Neither stored, nor compressed, for which it would be held back; nor buffered by nginx.
      'Cache-Control': 'no-store, no-transform',
      'X-Accel-Buffering': 'no',
    });
    if (request.method === 'HEAD') response.end();
    else this.#viewers.add(request, response, 'hello', this.#hello());
  }

  #answerAction(request: IncomingMessage, response: ServerResponse, name: ActionName): void {
    if (!this.#actions.isAllowed(name)) {
      refuse(response, 404, 'There is nothing here.');
    } else if (request.method !== 'POST') {
      refuse(response, 405, 'POST is what is answered here.', { Allow: 'POST' });
    } else if (!this.#isRefused(request, response)) {
      requireBody(request);
      this.#actions.take(name, request).then(
        (outcome) => {
          if (outcome === 204) this.#viewers.send('listing', this.#feed.listing(true));
          if (typeof outcome === 'number') refuse(response, outcome, WHY[outcome]);
          else sendJson(response, outcome);
        },
        // The connection broke while the body was read.
        () => response.destroy(),
      );
    }
  }

  /** Answers a request that may not have figures. */
  #isRefused(request: IncomingMessage, response: ServerResponse): boolean {
    const refusal = this.#access.refuse(request);
    if (refusal !== undefined) refuse(response, refusal.status, refusal.why);
    else if (isCrossOrigin(request)) refuse(response, 403, 'Another site has asked for this.');
    else return false;
    return true;
  }

  #tick(): void {
    const sample = this.#feed.sample();
    if (this.#viewers.size === 0) return;
    if (sample !== undefined) this.#viewers.send('sample', sample);
    this.#viewers.send('listing', this.#feed.listing());
  }

  #hello(): Hello {
    const { title, allowLift, allowBan, intervalSeconds, limiters } = this.#settings;
    return {
      title,
      allowLift,
      intervalSeconds,
      aliveSeconds: ALIVE_SECONDS,
      historySeconds: MOST_SAMPLES * intervalSeconds,
      limiters: limiters.map(([name, limiter]) => ({
        name,
        kind: limiter.constructor.name,
        banDuration: allowBan ? banDurationOf(limiter) : null,
      })),
      samples: this.#feed.samples,
      listing: this.#feed.listing(),
    };
  }
}

function redirect(
  response: ServerResponse,
  location: string,
  headers: Record<string, string> = {},
) {
  const all = { ...SECURITY_HEADERS, 'Cache-Control': 'no-store', Location: location, ...headers };
  response.writeHead(303, all).end();
}

function sendJson(response: ServerResponse, value: object): void {
  response.writeHead(200, {
    ...SECURITY_HEADERS,
    'Content-Type': 'application/json',
    'Cache-Control': 'no-store',
  });
  response.end(JSON.stringify(value));
}

function refuse(
  response: ServerResponse,
  status: number,
  why: string,
  headers: Record<string, string> = {},
): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const challenge = status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {};
  response.writeHead(status, {
    ...SECURITY_HEADERS,
    'Content-Type': 'text/plain; charset=utf-8',
    'Cache-Control': 'no-store',
    ...challenge,
    ...headers,
  });
  response.end(why === '' ? undefined : `${why}\n`);
}
