// h3 on Node. Prints its port.

import { H3, serve } from 'h3';
import { rateLimit } from 'relay-limiter/fetch';
import { limitH3 } from './h3-recipe.mjs';

const app = new H3();
app.use(limitH3(rateLimit({ limit: 5, windowSeconds: 3600 })));
app.get('/', () => 'Hello');
app.get('/redirect', () => Response.redirect('http://localhost/there'));
app.get('/throws', () => {
  throw new Error('broken');
});
const server = serve(app, { port: 0, hostname: '127.0.0.1', silent: true });
await server.ready();
console.log(new URL(server.url).port);
