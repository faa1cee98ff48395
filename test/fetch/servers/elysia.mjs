// Elysia on Bun. Prints its port.

import { Elysia } from 'elysia';
import { rateLimit } from 'relay-limiter/fetch';
import { limitElysia } from './elysia-recipe.mjs';

const app = new Elysia();
app
  .wrap(limitElysia(app, rateLimit({ limit: 5, windowSeconds: 3600 })))
  .get('/', () => 'Hello')
  .get('/redirect', () => Response.redirect('http://localhost/there'))
  .get('/throws', () => {
    throw new Error('broken');
  })
  .listen({ port: 0, hostname: '127.0.0.1' });
console.log(app.server.port);
