// A route handler of Next without Next, which calls it with a Request in the same way. Prints its port.

import { serve } from '@hono/node-server';
import { limited } from './next-recipe.mjs';

const GET = limited(async () => new Response('Hello'));
serve({ port: 0, hostname: '127.0.0.1', fetch: (request) => GET(request, {}) }, ({ port }) =>
  console.log(port),
);
