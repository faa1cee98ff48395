// The routes of each Fastify instance. Fastify shows a plugin only the routes that are added after it, so they are
// collected from the creation of the instance on, by the channel that Fastify publishes it on. Instances that were
// created before this file was loaded are unknown.

import { subscribe } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import type { FastifyInstance, RouteOptions } from 'fastify';

/** A property of a route's config: its constraints, which Fastify does not expose on a request. */
const CONSTRAINTS = Symbol('route constraints');

/** A property of an instance: its routes and those of its child contexts, which inherit the property. */
const ROUTES = Symbol('routes');

/** The properties of a route's config that identify the route. The config of the not-found handler has none. */
export interface RouteConfig {
  readonly url?: string;
  readonly method?: string | readonly string[];
  readonly [CONSTRAINTS]?: string;
}

interface AddedRoute {
  /** Later `onRoute` hooks may still change these options. */
  readonly route: RouteOptions;
  readonly context: FastifyInstance;
}

subscribe('fastify.initialization', (message) => {
  const { fastify } = message as { fastify: FastifyInstance & { [ROUTES]?: AddedRoute[] } };
  const routes: AddedRoute[] = [];
  fastify[ROUTES] = routes;
  fastify.addHook('onRoute', function (this: FastifyInstance, route) {
    storeConstraints(route);
    routes.push({ route, context: this });
  });
});

/** Returns the routes so far of a context and of its child contexts; none if the instance is unknown. */
export function routesBelow(top: FastifyInstance & { [ROUTES]?: AddedRoute[] }): AddedRoute[] {
  // A child context has its parent as its prototype.
  const isBelow = (context: object) => Object.prototype.isPrototypeOf.call(top, context);
  return (top[ROUTES] ?? []).filter(({ context }) => context === top || isBelow(context));
}

/** Stores the constraints of a new route in its config, where its requests can read them. */
export function storeConstraints(route: RouteOptions): void {
  if (route.constraints === undefined) return;
  // inspect, not JSON: constraints may be regular expressions.
  route.config = { ...route.config, [CONSTRAINTS]: inspect(route.constraints) } as never;
}

/** The config that a route's requests will have. */
export function configOf(route: RouteOptions): RouteConfig & { readonly rateLimit?: unknown } {
  const { url, method } = route;
  return { ...route.config, url, method };
}

/**
 * Returns the identities of a route, one for each method. Two kinds of routes that Fastify adds by itself get the
 * identity of their original, so that they share its buckets: the HEAD route of a GET route, and the route with or
 * without a trailing slash.
 */
export function routeIds({
  url = '',
  method = [],
  [CONSTRAINTS]: constraints,
}: RouteConfig): string[] {
  const location = `${url.replace(/\/$/, '')} ${constraints}`;
  return [method].flat().map((name) => `${name === 'HEAD' ? 'GET' : name} ${location}`);
}
