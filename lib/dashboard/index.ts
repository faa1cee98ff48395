// relay-limiter/dashboard: a page that shows live what limiters do. A request handler serves the page and a stream of
// server-sent events. With a token, statistics are sent only to clients that have it; without one, only to this
// machine. It uses only public methods of limiters, and no framework.

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { limiterError } from '../common/errors.js';
import { detached } from '../common/timers.js';
import { Access, isCrossOrigin, isLoopbackHost } from './access.js';
import { type ActionName, Actions, aboutOf, isAction, type Outcome } from './actions.js';
import { requireBody } from './body.js';
import { Feed, MAX_SAMPLES } from './feed.js';
import { pageFile, SECURITY_HEADERS, sendFile } from './files.js';
import type { Hello } from './messages.js';
import { type DashboardOptions, type DashboardSettings, readSettings } from './options.js';
import { type Route, routeOf } from './route.js';
import { Viewers } from './viewers.js';

export type {
  CountsByReason,
  GuardStats,
  NamedGuards,
  ObservableGuard as WatchedGuard,
} from '../guard/guard-stats.js';
export type { ObservableLimiter as WatchedLimiter } from '../limiters/stats.js';
export type { NamedLimiters, ObservableRules as WatchedRules } from '../rules/observable.js';
export type { DashboardOptions } from './options.js';
export type {
  FleetFigures,
  NamedFleets,
  RuleFleetFigures,
  WatchedFleet,
  WatchedSharedBans,
} from './watched-fleets.js';

/** The maximum number of seconds between two events, by which the page detects a server that hangs. */
const ALIVE_SECONDS = 3;

/** The dashboard: a request handler for node:http, Express and Connect, with methods to start and stop a server. */
export interface Dashboard {
  (request: IncomingMessage, response: ServerResponse): void;
  /**
   * Starts a server for the dashboard on `port` of `host` and resolves with its URL. The default port 0 selects a free
   * port; the default host is 127.0.0.1. Rejects if the port is unavailable.
   * @throws `ERR_LIMITER_OPTION` for a host other than this machine if the dashboard has no token, and if the dashboard
   * is or gets closed.
   */
  listen(port?: number, host?: string): Promise<string>;
  /** Ends all streams, the sampling and the servers of `listen`. Later requests get status 503. */
  close(): void;
}

/**
 * Creates a dashboard of limiters. From then on it reads their totals every `intervalSeconds`, so that a page that is
 * opened later shows the last minutes. Offenders are listed only while a page is open. If reading is expensive, both
 * happen less often, so that they take at most 2 % of the time.
 * @throws `ERR_LIMITER_OPTION` for an invalid option.
 * @example
 * import { OrderbookRateLimiter } from 'relay-limiter';
 * import { createDashboard } from 'relay-limiter/dashboard';
 *
 * const nicks = new OrderbookRateLimiter();
 * const dashboard = createDashboard({ limiters: { nicks } });
 * const url = await dashboard.listen();
 * const response = await fetch(url);
 * // Prints the URL and 200.
 * console.log(url, response.status, (await response.text()).length);
 * dashboard.close();
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

/** The text of a response to a POST request, by status code. */
const ACTION_TEXTS: Readonly<Record<Extract<Outcome, number>, string>> = {
  204: '',
  400: 'The body must be {"limiter":"...","key":"..."}, with a key of the limiter and valid seconds for a ban.',
  404: 'There is no such ban, or no such limiter with bans.',
  409: 'The limiter is full of banned peers.',
  413: 'The body must be at most 65,536 bytes long.',
  415: 'The content type must be application/json.',
  500: 'The limiter cannot answer.',
};

class DashboardServer {
  readonly #settings: DashboardSettings;
  readonly #access: Access;
  readonly #feed: Feed;
  readonly #actions: Actions;
  readonly #viewers = new Viewers();
  readonly #timers: readonly NodeJS.Timeout[];
  readonly #servers = new Set<Server>();
  #closed = false;

  constructor(settings: DashboardSettings) {
    this.#settings = settings;
    this.#access = new Access(settings.token);
    this.#feed = detached(() => new Feed(settings.shown, settings.guards, settings.fleets));
    this.#actions = new Actions(settings, this.#feed);
    this.#timers = detached(() => [
      setInterval(() => this.#tick(), settings.intervalSeconds * 1000).unref(),
      setInterval(() => this.#viewers.send('alive', null), ALIVE_SECONDS * 1000).unref(),
    ]);
  }

  async listen(port: number, host: string): Promise<string> {
    if (this.#settings.token === undefined && !isLoopbackHost(host)) {
      const message = `host must be this machine, such as 127.0.0.1, unless there is a token, got ${host}`;
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
      // An error while answering a request must not end the user's process.
      process.emitWarning(`the dashboard failed to answer a request: ${error}`);
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
      refuse(response, 405, 'The method must be GET or HEAD.', { Allow: 'GET, HEAD' });
    else if (route.name === 'events') this.#answerEvents(request, response);
    else if (route.name === '') this.#answerPage(request, response, route);
    else this.#answerFile(request, response, route.name);
  }

  #answerPage(request: IncomingMessage, response: ServerResponse, route: Route): void {
    const folder = route.isFolderWithoutSlash ? `./${route.lastSegment}/` : './';
    if (route.token !== undefined && this.#access.accepts(route.token)) {
      // Redirect to a URL without the token, so that the token does not stay in the history or in later logs.
      const secure = 'encrypted' in request.socket;
      redirect(response, folder, { 'Set-Cookie': this.#access.cookie(route.folder, secure) });
      return;
    }
    const denial = this.#access.refuse(request);
    if (denial?.status === 403) refuse(response, 403, denial.why);
    else if (route.isFolderWithoutSlash) redirect(response, folder + route.query);
    else if (denial !== undefined) this.#answerFile(request, response, 'token.html', 401);
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
      refuse(response, 503, 'Too many pages show this dashboard already.', { 'Retry-After': '10' });
      return;
    }
    response.writeHead(200, {
      ...SECURITY_HEADERS,
      'Content-Type': 'text/event-stream',
      // no-transform prevents compression, and X-Accel-Buffering buffering by nginx: both would delay events.
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
      refuse(response, 405, 'The method must be POST.', { Allow: 'POST' });
    } else if (!this.#isRefused(request, response)) {
      requireBody(request);
      this.#actions.perform(name, request).then(
        (outcome) => {
          if (outcome === 204) this.#viewers.send('listing', this.#feed.listing(true));
          if (typeof outcome === 'number') refuse(response, outcome, ACTION_TEXTS[outcome]);
          else sendJson(response, outcome);
        },
        // The connection broke while the body was read.
        () => response.destroy(),
      );
    }
  }

  /** Whether a request must not see statistics. If so, it answers the request. */
  #isRefused(request: IncomingMessage, response: ServerResponse): boolean {
    const denial = this.#access.refuse(request);
    if (denial !== undefined) refuse(response, denial.status, denial.why);
    else if (isCrossOrigin(request))
      refuse(response, 403, 'The request must not come from another site.');
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
    const { title, allowLift, allowBan, intervalSeconds, shown, guards, fleets } = this.#settings;
    return {
      title,
      allowLift,
      intervalSeconds,
      aliveSeconds: ALIVE_SECONDS,
      historySeconds: MAX_SAMPLES * intervalSeconds,
      hasRules: shown.some((each) => 'rules' in each),
      hasGuards: guards.length > 0,
      hasFleets: fleets.limits.length > 0,
      hasSharedBans: fleets.bans.length > 0,
      limiters: shown.map((each) => aboutOf(each, allowBan)),
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
