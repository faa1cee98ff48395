// Hono on this runtime: Node or Bun. Prints its port.

import { Hono } from 'hono';
import { rateLimit } from 'relay-limiter/fetch';
import { limitHono } from './hono-recipe.mjs';

const isBun = 'Bun' in globalThis;
const { getConnInfo } = await import(isBun ? 'hono/bun' : '@hono/node-server/conninfo');
const app = new Hono();
app.use(limitHono(rateLimit({ limit: 5, windowSeconds: 3600 }), getConnInfo));
app.get('/', (c) => c.text('Hello'));
app.get('/redirect', () => Response.redirect('http://localhost/there'));
app.get('/throws', () => {
  throw new Error('broken');
});
if (isBun) {
  console.log(globalThis.Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: app.fetch }).port);
} else {
  const { serve } = await import('@hono/node-server');
  serve({ port: 0, hostname: '127.0.0.1', fetch: app.fetch }, ({ port }) => console.log(port));
}
