// The Fastify plugin: adds one hook to the context, which limits each request by the options of the plugin and of the
// config of its route. Every route of the context is limited, no matter when it was added. This file imports only
// types of Fastify.

import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import { invalidValue, type LimiterError, limiterError, show } from '../common/errors.js';
import { requireOptions } from '../common/options.js';
import { toError } from '../http/to-error.js';
import { Hooks, OPTION_NAMES } from './hooks.js';
import { configOf, type RouteConfig, routesBelow, storeConstraints } from './routes.js';
import type {
  FastifyRateLimitOptions,
  HookRateLimitOptions,
  RateLimitHook,
  RouteRateLimitOptions,
} from './types.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * False: the route is not limited. True: the options of the plugin apply. Options: they take precedence over those
     * of the plugin. Undefined or null: `global` decides. If several registrations of the plugin apply to a route,
     * options belong to the nearest one: the last one of its context, or else of the closest parent context. The other
     * registrations limit the route by their own options.
     */
    rateLimit?: RouteRateLimitOptions | boolean | null | undefined;
  }
  interface FastifyInstance {
    /**
     * Returns a hook that limits by the options of the nearest plugin; `options` take precedence over them. Without
     * options, the hook does not count a request again that the plugin has counted.
     */
    rateLimit(options?: HookRateLimitOptions): RateLimitHook;
  }
}

type HookName = NonNullable<FastifyRateLimitOptions['hook']>;

/** A property of a context: the hooks of its last registration. Child contexts inherit it. */
const NEAREST = Symbol('nearest rate limit hooks');
type Context = FastifyInstance & { [NEAREST]?: Hooks };

const HOOKS: readonly unknown[] = ['onRequest', 'preValidation', 'preHandler'];

/**
 * The Fastify plugin that limits requests: `app.register(rateLimit, { limit: 100 })`. It limits every route of its
 * context and of child contexts, whether the route was added before or after the plugin, and requests without a route.
 * Refused requests get status 429. It is async because Fastify reports the failure of a plugin only by its promise.
 * @throws `ERR_LIMITER_OPTION` for an invalid option, or a policy that the response fields cannot express;
 * `ERR_LIMITER_ENGINE` if the requested engine is unavailable. Invalid options of a route are thrown where it is added;
 * `ready` and `listen` reject with those of a route that was added before the plugin was loaded.
 * @example
 * import Fastify from 'fastify';
 * import rateLimit from 'relay-limiter/fastify';
 *
 * const app = Fastify();
 * await app.register(rateLimit, { limit: 2, windowSeconds: 60 });
 * app.get('/', async () => 'Hello');
 * app.get('/health', { config: { rateLimit: false } }, async () => 'OK');
 *
 * const origin = await app.listen({ port: 0, host: '127.0.0.1' });
 * for (let n = 0; n < 3; n += 1) {
 *   const response = await fetch(origin);
 *   // Prints 200, 200 and 429.
 *   console.log(response.status, await response.text());
 * }
 * await app.close();
 */
export default async function rateLimit(
  fastify: FastifyInstance,
  options: FastifyRateLimitOptions,
): Promise<void> {
  requireOptions('rateLimit', options, OPTION_NAMES);
  const { global, hook, ...own } = options;
  const isGlobal = readGlobal(global);
  const pluginStage = readHook(hook);
  const hooks = new Hooks({ ...own });
  // Creates a hook to validate the options during registration. If only routes have a limit, a limit of 1 stands in.
  const hasLimit = isGlobal || own.limit !== undefined || own.limiter !== undefined;
  const { keys, action, plan, ...withoutRules } = own;
  hooks.hook(hasLimit ? undefined : { limit: 1, ...withoutRules });
  const context: Context = fastify;
  context[NEAREST] = hooks;
  if (!fastify.hasDecorator('rateLimit')) {
    fastify.decorate('rateLimit', function (this: Context | undefined, options) {
      return (this?.[NEAREST] ?? hooks).hook(options);
    });
  }
  const stages = new Set<HookName>();
  const addStage = (stage: HookName) => {
    if (stages.has(stage)) return;
    stages.add(stage);
    const registration = { hooks, isGlobal, stages, pluginStage };
    fastify.addHook(stage as 'onRequest', limitRequests(registration, stage));
  };
  const checkRoute = (route: RouteOptions, context: Context) => {
    const config = configOf(route);
    const read = readConfig(config.rateLimit, isGlobal);
    if (typeof read !== 'object' || context[NEAREST] !== hooks) return;
    addStage(stageOf(read, pluginStage));
    hooks.forRoute(read, config);
  };
  // Fastify calls this only for routes added after the plugin.
  fastify.addHook('onRoute', function (this: Context, route) {
    storeConstraints(route);
    checkRoute(route, this);
  });
  // Checks the earlier routes, once each registration of the plugin is loaded, of which the nearest has their options.
  fastify.addHook('onReady', async () => {
    for (const { route, context } of routesBelow(fastify)) {
      try {
        checkRoute(route, context);
      } catch (error) {
        throw withRoute(error, route);
      }
    }
  });
  addStage(pluginStage);
  for (const { route } of routesBelow(fastify)) {
    const { hook: wanted } = Object(configOf(route).rateLimit) as { hook?: unknown };
    // A wrong one is reported when the instance is ready.
    if (HOOKS.includes(wanted)) addStage(wanted as HookName);
  }
  fastify.addHook('onClose', async () => hooks.close());
}

/** One registration of the plugin. */
interface Registration {
  readonly hooks: Hooks;
  readonly isGlobal: boolean;
  /** The lifecycle hooks that the registration has added. */
  readonly stages: ReadonlySet<HookName>;
  /** That of routes that name none. */
  readonly pluginStage: HookName;
}

/** Returns the hook of a registration. Fastify calls it with `this` set to the context of the request's route. */
function limitRequests({ hooks, isGlobal, stages, pluginStage }: Registration, stage: HookName) {
  // Fastify creates one config object for each route and one for the not-found handler.
  const hookOf = new WeakMap<object, RateLimitHook>();
  const find = (context: Context, config: RouteConfig & { rateLimit?: unknown }): RateLimitHook => {
    const read = readConfig(config.rateLimit, isGlobal);
    const own = context[NEAREST] === hooks ? read : read !== false && isGlobal;
    if (own === false) return skip;
    const wanted = own === true ? pluginStage : stageOf(own, pluginStage);
    if (!stages.has(wanted)) throw unknownRoute(wanted);
    if (wanted !== stage) return skip;
    return own === true ? hooks.hook() : hooks.forRoute(own, config);
  };
  return function (
    this: Context,
    request: FastifyRequest,
    reply: FastifyReply,
    done: (error?: Error) => void,
  ): void {
    const { config } = request.routeOptions;
    let hook = hookOf.get(config);
    if (hook === undefined) {
      try {
        hook = find(this, config);
      } catch (error) {
        done(toError(error));
        return;
      }
      hookOf.set(config, hook);
    }
    hook(request, reply, done);
  };
}

function skip(_: FastifyRequest, __: FastifyReply, done: () => void): void {
  done();
}

/** Names the route of an error that is not thrown where the route is added. */
function withRoute(thrown: unknown, { method, url }: RouteOptions): Error {
  const { code = 'ERR_LIMITER_OPTION', message } = toError(thrown) as Partial<LimiterError>;
  const where = `${[method].flat().join(', ')} ${url}`;
  return limiterError(TypeError, code, `config.rateLimit of ${where}: ${message}`, thrown);
}

function readConfig(config: unknown, isGlobal: boolean): object | boolean {
  if (config === undefined || config === null) return isGlobal;
  if (typeof config === 'boolean' || typeof config === 'object') return config;
  throw invalidValue(
    'ERR_LIMITER_OPTION',
    "a route's config.rateLimit",
    config,
    'an object of options or a boolean',
  );
}

function readGlobal(global: unknown = true): boolean {
  if (typeof global === 'boolean') return global;
  throw invalidValue('ERR_LIMITER_OPTION', 'global', global, 'a boolean');
}

function stageOf({ hook }: { hook?: unknown }, pluginStage: HookName): HookName {
  return hook === undefined ? pluginStage : readHook(hook);
}

function unknownRoute(hook: HookName): Error {
  const message = `hook must be that of the plugin for a route that was added before relay-limiter/fastify was loaded, got ${show(hook)}`;
  return limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}

function readHook(hook: unknown = 'onRequest'): HookName {
  if (HOOKS.includes(hook)) return hook as HookName;
  throw invalidValue(
    'ERR_LIMITER_OPTION',
    'hook',
    hook,
    "'onRequest', 'preValidation' or 'preHandler'",
  );
}

// The same properties that the package fastify-plugin sets: the hooks apply to the context that registers the plugin.
Object.assign(rateLimit, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'relay-limiter',
  [Symbol.for('plugin-meta')]: { fastify: '5.x', name: 'relay-limiter' },
});
