// `npm run simulate`: six hours of endless demand under four policies, one line per strategy.

import { simulate } from './simulate.js';
import { STRATEGIES } from './strategies.js';
import { table } from './table.js';

console.log(table(STRATEGIES.map(simulate)));
