// The recipe for Bun. Prints its port.

import { bunOptions } from './bun-recipe.mjs';
import { guard, limit } from './limits.mjs';

const options = { port: 0, hostname: '127.0.0.1', ...bunOptions(limit, guard) };
console.log(globalThis.Bun.serve(options).port);
