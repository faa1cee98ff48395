// Koa on Node. Prints its port.

import Koa from 'koa';
import { rateLimit } from 'relay-limiter/http';
import { limitKoa } from './koa-recipe.mjs';

const app = new Koa();
app.silent = true;
app.use(limitKoa(rateLimit({ limit: 5, windowSeconds: 3600 })));
app.use((ctx) => {
  if (ctx.path === '/redirect') ctx.redirect('http://localhost/there');
  else if (ctx.path === '/throws') throw new Error('broken');
  else ctx.body = 'Hello';
});
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
