// `npm run simulate`: six hours of endless demand under four policies, one line per strategy. `npm run simulate -- peers`
// compares relay-limiter with other packages.

import { simulate } from './simulate.js';
import { STRATEGIES } from './strategies.js';
import { table } from './table.js';

if (process.argv.includes('peers')) await import('../peers/main.js');
else console.log(table(STRATEGIES.map(simulate)));
