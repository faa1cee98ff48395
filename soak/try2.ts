import { StandIn } from '../test/soak/stand-in.js';
import { Round } from './round.js';
import { Tally } from './tally.js';

const tally = new Tally();
const t = performance.now();
for (const flaw of process.argv[2]
  ? [process.argv[2]]
  : [
      'none',
      'evicts the banned',
      'has no bound',
      'does not count what it forgets',
      'refuses newcomers that have room',
      'forgets a violation',
      'lets a ban end early',
      'cleans up what is young',
      'loses an offender in a snapshot',
      'restores bans that are shorter',
      'works although the clock broke',
      'announces a ban twice',
    ]) {
  let found = 0;
  let ex = '';
  for (let seed = 1; seed < 40; seed += 1) {
    const round = new Round(
      {
        seed,
        engine: 'js',
        otherEngine: 'js',
        throwingListener: false,
        standIn: (s, h) => new StandIn(s, h, flaw as any),
      },
      tally,
    );
    try {
      round.run(20000);
      round.end();
    } catch (e) {
      found++;
      ex = String(e).slice(0, 300);
      if (flaw === 'none') {
        console.log(seed, e, round.story());
        break;
      }
    }
  }
  console.log(flaw, found, ex);
}
console.log(tally, tally.operations / (performance.now() - t));
