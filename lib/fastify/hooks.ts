// The hooks of one registration: one for each limit, and which of them is whose. Those without a limit of their own
// share the plugin's buckets.

import { inspect } from 'node:util';
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import { callback, requireOptions } from '../common/options.js';
import { watchForPerRequest } from '../guard/misuse.js';
import { Gate } from '../http/gate.js';
import { GATE_OPTIONS, readGateOptions } from '../http/options.js';
import { type Limits, Policies } from '../http/policies.js';
import { hasOwnLimit, inherit } from './inherit.js';
import { type Handler, refuse } from './refuse.js';

/** For a route's own hooks, or for the handler of what is not found. */
export type RateLimitHook = (
  request: FastifyRequest,
  reply: FastifyReply,
  done: (error?: Error) => void,
) => void;

/** Options of the plugin and of a route. */
export const NAMES = [...GATE_OPTIONS, 'handler', 'global', 'hook'];

/** Where a route's config has its constraints, which Fastify does not tell of at a request. */
const CONSTRAINTS = Symbol('the constraints of the route');

/** What tells routes apart: the config that Fastify makes of each. What is not found has none of it. */
export interface RouteConfig {
  readonly url?: string;
  readonly method?: string | readonly string[];
  readonly [CONSTRAINTS]?: string;
}

type Shared = Policies<FastifyRequest, FastifyReply>;
type Options = Readonly<Record<string, unknown>>;
/** By what a route is. */
type RoutesHooks = Map<string, RateLimitHook>;

export class Hooks {
  readonly #options: Options;
  readonly #policies: Shared[] = [];
  readonly #byConfig = new Map<object, RoutesHooks>();
  /** On the reply to a request that one of these hooks has counted. */
  readonly #counted = Symbol('counted by this registration');
  #default: RateLimitHook | undefined;
  #shared: Shared | undefined;

  constructor(options: Options) {
    this.#options = options;
  }

  /** The hook of a route with options of its own. @throws `ERR_LIMITER_OPTION` */
  of(options: object, route: RouteConfig): RateLimitHook {
    const known: RoutesHooks = this.#byConfig.get(options) ?? new Map();
    this.#byConfig.set(options, known);
    const names = namesOf(route);
    const found = names.map((name) => known.get(name)).find((hook) => hook !== undefined);
    const hook = found ?? this.#once(this.#make(options));
    for (const name of names) known.set(name, hook);
    return hook;
  }

  /** Without options of its own all share one. @throws `ERR_LIMITER_OPTION` */
  make(options?: object): RateLimitHook {
    if (options !== undefined) return this.#make(options, hasOwnLimit({ ...options }));
    this.#default ??= this.#once(this.#make({}));
    return this.#default;
  }

  close(): void {
    for (const policies of this.#policies) policies.close();
  }

  /** A request may meet several: that of its context, that of a route, that of what is not found. The first counts. */
  #once(hook: RateLimitHook): RateLimitHook {
    const counted = this.#counted;
    return (request, reply, done) => {
      const marks = reply as unknown as Record<symbol, true | undefined>;
      if (marks[counted]) {
        done();
        return;
      }
      marks[counted] = true;
      hook(request, reply, done);
    };
  }

  /** `isWatched`: whether it may be one that its user makes anew for each request. */
  #make(options: object, isWatched = false): RateLimitHook {
    requireOptions('rateLimit', options, NAMES);
    const own = { ...options };
    const given = inherit(this.#options, own);
    const read = readGateOptions<FastifyRequest, FastifyReply>(
      'rateLimit',
      given,
      ['handler'],
      rawOf,
    );
    const words = { message: read.message, handler: callback<Handler>(given, 'handler') };
    const gate = new Gate(read, this.#policiesFor(own, read), {
      hasBegun: (reply) => reply.sent || reply.raw.headersSent,
      setField: (reply, name, value) => void reply.header(name, value),
      refuse: (request, reply, _, refusal) => refuse(request, reply, refusal, words),
      fail({ raw }, reply, done, error) {
        // Where nobody is left to be answered the request ends here, and is no error. Mocks may have no socket.
        if (raw.socket?.destroyed) reply.hijack();
        else done(error);
      },
    });
    if (!isWatched || read.limiter !== undefined) {
      return (request, reply, done) => gate.pass(request, reply, done);
    }
    const look = watchForPerRequest(read.warn);
    return (request, reply, done) => {
      look(request.raw);
      gate.pass(request, reply, done);
    };
  }

  #policiesFor(own: Options, limits: Limits<FastifyRequest, FastifyReply>): Shared {
    if (!hasOwnLimit(own) && this.#shared !== undefined) return this.#shared;
    const policies = new Policies(limits);
    this.#policies.push(policies);
    if (!hasOwnLimit(own)) this.#shared = policies;
    return policies;
  }
}

/** Has a route that is being added keep its constraints for its requests. */
export function markConstraints(route: RouteOptions): void {
  if (route.constraints === undefined) return;
  // As text: they may be expressions, which JSON cannot say.
  route.config = { ...route.config, [CONSTRAINTS]: inspect(route.constraints) } as never;
}

/**
 * What routes are that share buckets: the HEAD that Fastify adds to a GET, and the two with and without a slash
 * at the end that it makes of one.
 */
function namesOf({ url = '', method = [], [CONSTRAINTS]: constraints }: RouteConfig): string[] {
  const place = `${url.replace(/\/$/, '')} ${constraints}`;
  return [method].flat().map((name) => `${name === 'HEAD' ? 'GET' : name} ${place}`);
}

function rawOf({ raw }: FastifyRequest) {
  return raw;
}
