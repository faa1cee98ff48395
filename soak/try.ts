import { Round } from './round.js';
import { Tally } from './tally.js';

const tally = new Tally();
const t = performance.now();
for (let seed = 1; seed < 200; seed += 1) {
  const engine = seed % 2 ? 'native' : 'js';
  const round = new Round({ seed, engine, otherEngine: engine, throwingListener: false }, tally);
  try {
    round.run(20000);
  } catch (e) {
    console.log(seed, e, round.story());
    break;
  }
}
console.log(tally, tally.operations / (performance.now() - t));
