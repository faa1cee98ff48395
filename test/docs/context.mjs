// What surrounds a fragment of a document in a reader's program, as globals, and a machine on which every port is free. A
// block that declares or imports a name uses its own.

import { readFile, writeFile } from 'node:fs/promises';
import { Server } from 'node:net';
import express from 'express';
import Fastify from 'fastify';
import promClient from 'prom-client';
import * as core from 'relay-limiter';
import * as address from 'relay-limiter/address';
import * as client from 'relay-limiter/client';
import { createDashboard } from 'relay-limiter/dashboard';
import * as fastifyLimit from 'relay-limiter/fastify';
import * as fetchLimit from 'relay-limiter/fetch';
import * as headers from 'relay-limiter/headers';
import * as http from 'relay-limiter/http';
import * as metrics from 'relay-limiter/metrics';
import * as net from 'relay-limiter/net';
import * as persist from 'relay-limiter/persist';
import * as websocket from 'relay-limiter/websocket';
import * as ws from 'relay-limiter/ws';
import { WebSocketServer } from 'ws';

const listen = Server.prototype.listen;
Server.prototype.listen = function (_port, ...rest) {
  const callback = rest.find((argument) => typeof argument === 'function');
  return listen.call(this, { port: 0, host: '127.0.0.1' }, callback);
};

const handler = (_request, response) => response.end('here you are');
const { RateLimiter } = core;

const ofAllPages = () => ({
  // No request leaves the machine.
  fetch: async () => new Response('{"title":"an answer"}', { status: 200 }),
  ...{ ...core, ...address, ...client, ...headers, ...metrics, ...net, ...persist, ...websocket },
  ...{ ...ws, ...fetchLimit, ...http },
  ...{ login: handler, upload: handler, health: handler, notFound: handler },
  ...{ handle() {}, readFile, writeFile, watchFile() {} },
  ...{ address: '192.0.2.7', peer: 'alice', path: 'state.json', key: undefined, cert: undefined },
  answer: (_request, response) => response?.end('here you are') ?? new Response('here you are'),
  app: express(),
  messages: new RateLimiter(),
  limiter: new RateLimiter(),
  nodes: { 'one.example': { policies: [{ w: 1, v: 10 }] } },
  // Servers of other runtimes and packages, which call nothing: test:frameworks runs the real ones.
  Deno: { serve() {} },
  Bun: { serve() {} },
  uWS: { App: () => ({ ws() {} }) },
});

/** What fragments of a page mean by a name that means something else on other pages. */
const OF_PAGES = {
  'docs/fleet.md': async () => {
    const { SharedRateLimiter, SharedRuleLimiter } = await import('relay-limiter/redis');
    const store = globalThis.client;
    return (
      store && {
        limiter: new SharedRateLimiter({ client: store, rateLimit: 50, burstLimit: 100 }),
        limits: new SharedRuleLimiter({
          client: store,
          scopes: { connection: {}, address: { kind: 'address' } },
          rules: { messages: { scope: 'connection', rateLimit: 50 } },
        }),
      }
    );
  },
  'docs/client.md': () => ({
    limiter: new client.PolicyLimiter({
      policies: [
        { quota: 9, windowSeconds: 1 },
        { quota: 9, windowSeconds: 1, unit: 'points' },
      ],
    }),
    ask: async () => ({ text: 'It scatters light.', usage: { total: 700 } }),
  }),
  'docs/upstreams.md': () => ({
    limiter: new client.PolicyLimiter({ policies: [{ quota: 9, windowSeconds: 1 }] }),
  }),
  'docs/headers.md': () => ({
    // Headers of a response to read, and of one to write.
    response: Object.assign(new Response('{}'), { setHeader() {} }),
  }),
  'docs/servers.md': () => ({
    server: new WebSocketServer({ port: 0 })._server,
    guard: websocket.guardWebSockets({ connections: { maxPerAddress: 20 } }),
  }),
  'docs/observability.md': () => ({
    client: promClient,
    server: new WebSocketServer({ port: 0 }),
    fastify: Fastify(),
    dashboard: createDashboard({ limiters: { messages: new RateLimiter() } }),
  }),
  'docs/recipes.md': async () => ({
    ...(await import('../../out/examples/recipes/nftables.js')),
    rules: { messages: { scope: 'address', rateLimit: 10 } },
    bans: { address: { violations: 20, withinSeconds: 60, seconds: 600 } },
  }),
  // Of a Fastify instance in the fragments about the plugin.
  'docs/http.md#fastify': () => ({ app: Fastify(), rateLimit: fastifyLimit.default }),
};

/** A store for the pages that need one. */
async function storeContext() {
  const url = process.env.REDIS_URL;
  if (!url) return {};
  const { createClient } = await import('redis');
  return { client: await createClient({ url }).connect() };
}

const PAGES_WITH_STORE = ['README.md', 'docs/fleet.md'];
const before = Object.getOwnPropertyDescriptors(globalThis);

/** Sets the globals that fragments of a page find. `page` ends with "#fastify" for those about the Fastify plugin. */
export default async function surround(page) {
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(globalThis))) {
    if (name in before) Object.defineProperty(globalThis, name, before[name]);
    else if (property.configurable) delete globalThis[name];
  }
  promClient.register.clear();
  Object.assign(globalThis, ofAllPages());
  if (PAGES_WITH_STORE.includes(page)) Object.assign(globalThis, await storeContext());
  Object.assign(globalThis, await OF_PAGES[page]?.());
}
