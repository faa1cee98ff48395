// The Fastify plugin: a hook on each route, by the options of the plugin and those in the route's config.
// Decides nothing itself, and knows of Fastify only its types.

import { inspect } from 'node:util';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import { refused } from '../errors.js';
import { Gate } from '../http/gate.js';
import { GATE_OPTIONS, readGateOptions } from '../http/options.js';
import { type Limits, Policies } from '../http/policies.js';
import type { LimitOptions } from '../http/types.js';
import { callback, requireOptions } from '../options.js';
import { hasOwnLimit, inherit } from './inherit.js';
import { type Handler, refuse } from './refuse.js';

/** Options of a route, or of a hook. */
export interface RouteRateLimitOptions extends LimitOptions<FastifyRequest, FastifyReply> {
  /**
   * Answers a refusal instead of the plugin; status, Retry-After and the fields of the limit are set. What it
   * throws, or rejects with, goes to the error handler.
   */
  handler?: Handler | undefined;
}

export interface FastifyRateLimitOptions extends RouteRateLimitOptions {
  /** Whether routes are limited that say nothing of it. Default true. */
  global?: boolean | undefined;
  /** Where in its life a request is counted. Default `onRequest`: before its body is read. */
  hook?: 'onRequest' | 'preValidation' | 'preHandler' | undefined;
}

/** For a route's own hooks, or for the handler of what is not found. */
export type RateLimitHook = (
  request: FastifyRequest,
  reply: FastifyReply,
  done: (error?: Error) => void,
) => void;

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * False: not limited. True: by the plugin's options. Options: these go before the plugin's. Null is
     * undefined: as `global` says. Of several registrations options are for the nearest one, the last of its
     * context or else of the one above; the others limit by their own.
     */
    rateLimit?: RouteRateLimitOptions | boolean | null | undefined;
  }
  interface FastifyInstance {
    /** A hook that limits by the nearest plugin's options, `options` going before them. */
    rateLimit(options?: RouteRateLimitOptions): RateLimitHook;
  }
}

type HookName = NonNullable<FastifyRateLimitOptions['hook']>;
type Shared = Policies<FastifyRequest, FastifyReply>;
type Options = Readonly<Record<string, unknown>>;
/** By what a route is. */
type RoutesHooks = Map<string, RateLimitHook>;

/** Where a context has the hooks of its last registration; those below inherit it. */
const NEAREST = Symbol('the nearest rate limits');
type Context = FastifyInstance & { [NEAREST]?: Hooks };

/** Options of the plugin and of a route. */
const NAMES = [...GATE_OPTIONS, 'handler', 'global', 'hook'];
const HOOKS: readonly unknown[] = ['onRequest', 'preValidation', 'preHandler'];

/** The hooks of one registration; those without a limit of their own share its buckets. */
class Hooks {
  readonly #options: Options;
  readonly #policies: Shared[] = [];
  readonly #byConfig = new Map<object, RoutesHooks>();
  #default: RateLimitHook | undefined;
  #shared: Shared | undefined;

  constructor(options: Options) {
    this.#options = options;
  }

  /** The hook of a route. @throws `ERR_LIMITER_OPTION` */
  of(config: object, route: RouteOptions): RateLimitHook {
    const known: RoutesHooks = this.#byConfig.get(config) ?? new Map();
    this.#byConfig.set(config, known);
    const names = namesOf(route);
    const hook = names.map((name) => known.get(name)).find(isKnown) ?? this.make(config);
    for (const name of names) known.set(name, hook);
    return hook;
  }

  /** Without options of its own all share one. @throws `ERR_LIMITER_OPTION` */
  make(options?: object): RateLimitHook {
    if (options !== undefined) return this.#make(options);
    this.#default ??= this.#make({});
    return this.#default;
  }

  #make(options: object): RateLimitHook {
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
        // Where nobody is left to be answered the request ends here, and is no error.
        if (raw.socket.destroyed) reply.hijack();
        else done(error);
      },
    });
    return (request, reply, done) => gate.pass(request, reply, done);
  }

  close(): void {
    for (const policies of this.#policies) policies.close();
  }

  #policiesFor(own: Options, limits: Limits<FastifyRequest, FastifyReply>): Shared {
    if (!hasOwnLimit(own) && this.#shared !== undefined) return this.#shared;
    const policies = new Policies(limits);
    this.#policies.push(policies);
    if (!hasOwnLimit(own)) this.#shared = policies;
    return policies;
  }
}

function isKnown(hook: RateLimitHook | undefined): hook is RateLimitHook {
  return hook !== undefined;
}

/**
 * What routes are that share buckets: the HEAD that Fastify adds to a GET, and the two with and without a slash
 * at the end that it makes of one. Constraints may be expressions, which JSON cannot say.
 */
function namesOf({ url, method, constraints }: RouteOptions): string[] {
  const place = `${url.replace(/\/$/, '')} ${inspect(constraints)}`;
  return [method].flat().map((name) => `${name === 'HEAD' ? 'GET' : name} ${place}`);
}

function rawOf({ raw }: FastifyRequest) {
  return raw;
}

/**
 * The plugin: `app.register(rateLimit, { limit: 100, windowSeconds: 60 })`. Limits the routes that are added
 * after it, here and in contexts below. A promise, since Fastify hears of nothing else that fails.
 * @throws `ERR_LIMITER_OPTION` for a wrong option, or one that the headers cannot say; `ERR_LIMITER_ENGINE`
 */
async function rateLimit(
  fastify: FastifyInstance,
  options: FastifyRateLimitOptions,
): Promise<void> {
  requireOptions('rateLimit', options, NAMES);
  const { global, hook, ...own } = options;
  const isGlobal = readGlobal(global);
  const name = readHook(hook);
  const hooks = new Hooks({ ...own });
  // A wrong option is found here, not at the first route.
  if (isGlobal || hasOwnLimit({ ...own })) hooks.make();
  const context: Context = fastify;
  context[NEAREST] = hooks;
  if (!fastify.hasDecorator('rateLimit')) {
    fastify.decorate('rateLimit', function (this: Context | undefined, more) {
      return (this?.[NEAREST] ?? hooks).make(more);
    });
  }
  fastify.addHook('onRoute', function (this: Context, route) {
    const config = readConfig(route.config?.rateLimit, isGlobal);
    const own = this[NEAREST] === hooks ? config : config !== false && isGlobal;
    if (own !== false) addHook(route, name, own === true ? hooks.make() : hooks.of(own, route));
  });
  fastify.addHook('onClose', async () => hooks.close());
}

/** After the route's own. */
function addHook(route: RouteOptions, name: HookName, hook: RateLimitHook): void {
  const others = route[name] ?? [];
  Object.assign(route, { [name]: [others, hook].flat() });
}

function readConfig(config: unknown, isGlobal: boolean): object | boolean {
  if (config === undefined || config === null) return isGlobal;
  if (typeof config === 'boolean' || typeof config === 'object') return config;
  throw refused(
    'ERR_LIMITER_OPTION',
    "a route's config.rateLimit",
    config,
    'options, or a boolean',
  );
}

function readGlobal(global: unknown = true): boolean {
  if (typeof global === 'boolean') return global;
  throw refused('ERR_LIMITER_OPTION', 'global', global, 'a boolean');
}

function readHook(hook: unknown = 'onRequest'): HookName {
  if (HOOKS.includes(hook)) return hook as HookName;
  throw refused('ERR_LIMITER_OPTION', 'hook', hook, "'onRequest', 'preValidation' or 'preHandler'");
}

// What fastify-plugin does: what is registered here holds for the context that registers it.
export default Object.assign(rateLimit, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'relay-limiter',
  [Symbol.for('plugin-meta')]: { fastify: '5.x', name: 'relay-limiter' },
});
