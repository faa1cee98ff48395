// The recipe for Bun. Prints its port.

import { bunServer } from './bun-recipe.mjs';

console.log(globalThis.Bun.serve({ port: 0, hostname: '127.0.0.1', ...bunServer() }).port);
