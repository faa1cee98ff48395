// The Fastify plugin: one hook of the context, which limits each request by the options of the plugin and those in
// its route's config. Guarantees that no route of the context escapes it, whenever it was added. Knows of Fastify only
// its types.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { refused } from '../common/errors.js';
import { requireOptions } from '../common/options.js';
import { errorOf } from '../http/later.js';
import type { LimitOptions } from '../http/types.js';
import { Hooks, markConstraints, NAMES, type RateLimitHook, type RouteConfig } from './hooks.js';
import type { Handler } from './refuse.js';

export type { RateLimitHook } from './hooks.js';

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
  /**
   * Where in its life a request is counted. Default `onRequest`: before its body is read. The hook runs among those of
   * its context in the order in which they were added, and before a route's own.
   */
  hook?: 'onRequest' | 'preValidation' | 'preHandler' | undefined;
}

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
    /**
     * A hook that limits by the nearest plugin's options, `options` going before them. Without options it counts no
     * request that the plugin has counted.
     */
    rateLimit(options?: RouteRateLimitOptions): RateLimitHook;
  }
}

type HookName = NonNullable<FastifyRateLimitOptions['hook']>;

/** Where a context has the hooks of its last registration; those below inherit it. */
const NEAREST = Symbol('the nearest rate limits');
type Context = FastifyInstance & { [NEAREST]?: Hooks };

const HOOKS: readonly unknown[] = ['onRequest', 'preValidation', 'preHandler'];

/**
 * The plugin: `app.register(rateLimit, { limit: 100, windowSeconds: 60 })`. Limits every route of its context and of
 * those below, whether it was added before the plugin or after it, and requests for which there is no route. A promise,
 * since Fastify hears of nothing else that fails.
 * @throws `ERR_LIMITER_OPTION` for a wrong option, or one that the headers cannot say; `ERR_LIMITER_ENGINE`
 */
async function rateLimit(
  fastify: FastifyInstance,
  options: FastifyRateLimitOptions,
): Promise<void> {
  requireOptions('rateLimit', options, NAMES);
  const { global, hook, ...own } = options;
  const isGlobal = readGlobal(global);
  const hooks = new Hooks({ ...own });
  // A wrong option is found here, not at the first route, and where no limit is given yet as well.
  const isWhole = isGlobal || own.limit !== undefined || own.limiter !== undefined;
  hooks.make(isWhole ? undefined : { limit: 1, ...own });
  const context: Context = fastify;
  context[NEAREST] = hooks;
  if (!fastify.hasDecorator('rateLimit')) {
    fastify.decorate('rateLimit', function (this: Context | undefined, more) {
      return (this?.[NEAREST] ?? hooks).make(more);
    });
  }
  // Only routes that are added from now on come here: so their wrong options are found at once.
  fastify.addHook('onRoute', function (this: Context, route) {
    const config = readConfig(route.config?.rateLimit, isGlobal);
    markConstraints(route);
    const { url, method } = route;
    if (typeof config === 'object' && this[NEAREST] === hooks) {
      hooks.of(config, { ...route.config, url, method });
    }
  });
  fastify.addHook(readHook(hook) as 'onRequest', limiting(hooks, isGlobal));
  fastify.addHook('onClose', async () => hooks.close());
}

/** The hook of a registration, which Fastify calls as a method of the context that the request's route belongs to. */
function limiting(hooks: Hooks, isGlobal: boolean) {
  // Fastify makes an object of each route's config, and one of what is not found.
  const known = new WeakMap<object, RateLimitHook>();
  const find = (context: Context, config: RouteConfig & { rateLimit?: unknown }): RateLimitHook => {
    const read = readConfig(config.rateLimit, isGlobal);
    const own = context[NEAREST] === hooks ? read : read !== false && isGlobal;
    if (own === false) return pass;
    return own === true ? hooks.make() : hooks.of(own, config);
  };
  return function (
    this: Context,
    request: FastifyRequest,
    reply: FastifyReply,
    done: (error?: Error) => void,
  ): void {
    const { config } = request.routeOptions;
    let hook = known.get(config);
    if (hook === undefined) {
      try {
        hook = find(this, config);
      } catch (error) {
        done(errorOf(error));
        return;
      }
      known.set(config, hook);
    }
    hook(request, reply, done);
  };
}

function pass(_: FastifyRequest, __: FastifyReply, done: () => void): void {
  done();
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
