// Creates the hooks of one registration of the plugin: one hook for each limit. Routes without a limit of their own
// share the plugin's buckets.

import { isDeepStrictEqual } from 'node:util';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { invalidValue, limiterError, show } from '../common/errors.js';
import { callback, requireOptions } from '../common/options.js';
import { watchForPerRequest } from '../guard/misuse.js';
import { nodeClient } from '../http/node-client.js';
import { readSharedOptions, SHARED_OPTIONS } from '../http/options.js';
import { type LimitSettings, PolicySet } from '../http/policies.js';
import { RequestLimiter } from '../http/request-limiter.js';
import { hasOwnLimit, inherit } from './inherit.js';
import { refuse } from './refuse.js';
import { type RouteConfig, routeIds } from './routes.js';
import type { Handler, RateLimitHook } from './types.js';

/** The names of the options of the plugin and of a route. */
export const OPTION_NAMES = [...SHARED_OPTIONS, 'handler', 'global', 'hook', 'group'];

type Policies = PolicySet<FastifyRequest, FastifyReply>;
type Settings = LimitSettings<FastifyRequest, FastifyReply>;
type Options = Readonly<Record<string, unknown>>;
/** Hooks by the identity of their route, as `routeIds` returns it. */
type HooksByRoute = Map<string, RateLimitHook>;

export class Hooks {
  readonly #options: Options;
  readonly #policies: Policies[] = [];
  /** By the name of a group. */
  readonly #groups = new Map<string, { policies: Policies; settings: Settings }>();
  readonly #byConfig = new Map<object, HooksByRoute>();
  /** A property of the reply to a request that one of these hooks has counted. */
  readonly #counted = Symbol('counted by this registration');
  #defaultHook: RateLimitHook | undefined;
  #sharedPolicies: Policies | undefined;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Returns the hook of a route that has options of its own. @throws `ERR_LIMITER_OPTION` */
  forRoute(options: object, route: RouteConfig): RateLimitHook {
    const hooks: HooksByRoute = this.#byConfig.get(options) ?? new Map();
    this.#byConfig.set(options, hooks);
    const ids = routeIds(route);
    const existing = ids.map((id) => hooks.get(id)).find((hook) => hook !== undefined);
    const { hook: _, ...own } = options as Options;
    const hook = existing ?? this.#once(this.#create(own));
    for (const id of ids) hooks.set(id, hook);
    return hook;
  }

  /** Creates a hook with these options. Without options, returns a shared hook. @throws `ERR_LIMITER_OPTION` */
  hook(options?: object): RateLimitHook {
    if (options !== undefined) return this.#create(options, hasOwnLimit({ ...options }));
    this.#defaultHook ??= this.#once(this.#create({}));
    return this.#defaultHook;
  }

  close(): void {
    for (const policies of this.#policies) policies.close();
  }

  /**
   * A request may pass several hooks: those of its context, of its route and of the not-found handler. Only the first
   * hook counts it.
   */
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

  /** `detectMisuse`: whether to warn if the user creates this hook again for each request. */
  #create(options: object, detectMisuse = false): RateLimitHook {
    requireOptions('rateLimit', options, OPTION_NAMES);
    const { group, ...own } = options as Options;
    const given = inherit(this.#options, own);
    const read = readSharedOptions<FastifyRequest, FastifyReply>(
      'rateLimit',
      given,
      ['handler'],
      nodeClient(rawOf),
    );
    const refusalOptions = { message: read.message, handler: callback<Handler>(given, 'handler') };
    const limiter = new RequestLimiter(read, this.#policiesFor(own, read, group), {
      hasStarted: (reply) => reply.sent || reply.raw.headersSent,
      setField: (reply, name, value) => void reply.header(name, value),
      refuse: (request, reply, _, refusal) => refuse(request, reply, refusal, refusalOptions),
      onSent: (reply, then) => void reply.raw.once('finish', then),
      fail({ raw }, reply, done, error) {
        // If the client has disconnected, there is nothing to answer and no error to report. Mock requests may have
        // no socket.
        if (raw.socket?.destroyed) reply.hijack();
        else done(error);
      },
    });
    if (!detectMisuse || read.limiter !== undefined || read.rules !== undefined) {
      return (request, reply, done) => limiter.handle(request, reply, done);
    }
    const detect = watchForPerRequest(read.warn);
    return (request, reply, done) => {
      detect(request.raw);
      limiter.handle(request, reply, done);
    };
  }

  #policiesFor(own: Options, settings: Settings, group: unknown): Policies {
    if (group !== undefined) return this.#groupPolicies(group, settings);
    if (!hasOwnLimit(own) && this.#sharedPolicies !== undefined) return this.#sharedPolicies;
    const policies = this.#createPolicies(settings);
    if (!hasOwnLimit(own)) this.#sharedPolicies = policies;
    return policies;
  }

  #groupPolicies(group: unknown, settings: Settings): Policies {
    if (typeof group !== 'string' || group === '') {
      throw invalidValue('ERR_LIMITER_OPTION', 'group', group, 'a string that is not empty');
    }
    if (settings.limiter !== undefined || settings.rules !== undefined) {
      const message = 'group must not be given together with limiter, which routes share by itself';
      throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
    }
    const known = this.#groups.get(group);
    if (known === undefined) {
      const policies = this.#createPolicies(settings);
      this.#groups.set(group, { policies, settings });
      return policies;
    }
    if (isDeepStrictEqual(limitsOf(known.settings), limitsOf(settings))) return known.policies;
    const message = `all limits of the group ${show(group)} must be the same, got different ones`;
    throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
  }

  #createPolicies(settings: Settings): Policies {
    const policies = new PolicySet(settings);
    this.#policies.push(policies);
    return policies;
  }
}

/** The settings that a PolicySet reads, without the other options beside them. */
function limitsOf({ limit, windowSeconds, limiterOptions, ban, refunds }: Settings) {
  return { limit, windowSeconds, limiterOptions, ban, refunds };
}

function rawOf({ raw }: FastifyRequest) {
  return raw;
}
