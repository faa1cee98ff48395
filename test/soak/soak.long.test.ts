// The soak, briefly, and that it would notice.

import type { EngineName } from 'relay-limiter';
import { describe, expect, it } from 'vitest';
import { Difference } from '../../soak/model/model.js';
import { Round } from '../../soak/round.js';
import type { Host, Subject } from '../../soak/subjects.js';
import { Tally } from '../../soak/tally.js';
import { ENGINES, otherEngine } from '../support/limiters.js';
import { printSeedOnFailure, SEED } from '../support/seed.js';
import { type Flaw, StandIn } from './stand-in.js';

describe.each(ENGINES)('%s', (engine) => {
  it('answers as the reference model does', () => {
    printSeedOnFailure();
    answersAsTheModel(engine, SEED);
  });

  it('answers as the reference model does where peers are evicted and calls fail', () => {
    const tally = answersAsTheModel(engine, 1);
    expect(tally.evictions).toBeGreaterThan(1000);
    expect(tally.faultsInjected).toBeGreaterThan(100);
  });
});

function answersAsTheModel(engine: EngineName, seed: number): Tally {
  const tally = new Tally();
  for (let n = 0; n < 3; n += 1) {
    const options = {
      ...{ seed: seed + n, engine, otherEngine: otherEngine(engine) },
      throwingListener: false,
    };
    const round = new Round(options, tally);
    try {
      play(round, 8000);
    } catch (error) {
      console.error(round.describe());
      throw error;
    }
  }
  return tally;
}

describe('a limiter in place of ours', () => {
  it('passes if it is right', () => {
    expect(firstDifference('none', 6)).toBe('');
  });

  it.each<[Flaw, RegExp]>([
    ['evicts the banned', /possible states: .*bannedAt/],
    ['has no bound', /peers is/],
    ['does not count what it forgets', /lossyEvictions is/],
    ['refuses newcomers that have room', /possible states: undefined/],
    ['forgets a violation', /possible states: .*violations/],
    ['lets a ban end early', /possible states: .*bannedAt/],
    ['cleans up what is young', /possible states/],
    ['loses an offender in a snapshot', /a snapshot/],
    ['restores bans that are shorter', /a snapshot/],
    ['works although the clock broke', /clock throws/],
    ['announces a ban twice', /bans announced/],
    ['names violators that are none', /'nobody' .*'violations' answered/],
    ['counts violations of a violator wrong', /'violations' answered/],
    ['leaves out the worst violator', /not among the worst violators/],
    ['counts violations many times', /totalViolations is/],
    ['tells too few peers', /peers is/],
    ['tells a memory it cannot know', /memoryBytes is 0/],
    ['tells tokens that are not there', /'tokens' answered/],
    ['tells delays that are too short', /'delay' answered/],
    ['tells bans that are too long', /'secondsLeft' answered/],
    ['tells tokens as of the last check', /'refilled' answered/],
    ['keeps a ban that is to end', /possible states|listed as banned/],
  ])('is found out if it %s', (flaw, words) => {
    expect(firstDifference(flaw, 100)).toMatch(words);
  });
});

/** What the first round says that finds one; the seeds are fixed, since not every round can show it. */
function firstDifference(flaw: Flaw, rounds: number): string {
  for (let seed = 1; seed <= rounds; seed += 1) {
    const standIn = (subject: Subject, host: Host) => new StandIn(subject, host, flaw);
    const options = { engine: 'js', otherEngine: 'js', throwingListener: false } as const;
    try {
      play(new Round({ seed, standIn, ...options }, new Tally()), 6000);
    } catch (error) {
      if (!(error instanceof Difference)) throw error;
      return error.message;
    }
  }
  return '';
}

function play(round: Round, operations: number): void {
  round.run(operations);
  round.end();
}
