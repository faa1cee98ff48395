// The recipe for Deno. Prints its port.

import { denoHandler } from './deno-recipe.mjs';
import { guard, limit } from './limits.mjs';

const onListen = ({ port }) => console.log(port);
const options = { port: 0, hostname: '127.0.0.1', onListen };
globalThis.Deno.serve(options, denoHandler(limit, guard));
