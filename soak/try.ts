import { Round } from './round.js';
import { Tally } from './tally.js';

const tally = new Tally();
const t = performance.now();
const seed0 = (Math.imul(157599782, 0x9e3779b1) + 62) >>> 0;
for (let n = 0; n < 400; n += 1) {
  const seed = process.argv[2] ? seed0 : Math.floor(Math.random() * 2 ** 32);
  const round = new Round(
    { seed, engine: 'native', otherEngine: 'native', throwingListener: false },
    tally,
  );
  try {
    round.run(100000);
  } catch (e) {
    console.log(seed, n, e, round.story());
    break;
  }
  if (performance.now() - t > 100_000) break;
}
console.log(tally, tally.operations / (performance.now() - t));
