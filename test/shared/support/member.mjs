// A member of shared tables: a process or a thread that creates limiters, and calls them as the test says (members.ts).

import { parentPort } from 'node:worker_threads';
import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
} from 'relay-limiter';

const send = (message) => (parentPort ? parentPort.postMessage(message) : process.send?.(message));
const CLASSES = { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter, RuleLimiter };
const limiters = [];
let loads = 0;

const COMMANDS = {
  open(name, options) {
    limiters.push(new CLASSES[name]({ ...options, onBan: (ban) => send({ ban }) }));
    return limiters.at(-1).shared;
  },
  call(method, ...args) {
    return limiters.at(-1)[method](...args);
  },
  shared: () => limiters.at(-1).shared,
  /** Checks the keys in turn, in one turn of the event loop. Returns the admissions, with the time of each. */
  flood(method, keys, checks) {
    const check = limiters.at(-1)[method].bind(limiters.at(-1));
    const admissions = [];
    for (let n = 0; n < checks; n += 1) {
      const key = keys[n % keys.length];
      const from = machineSeconds();
      const answer = check(key);
      if (answer === true || answer[0] === 'allow' || answer.outcome === 'allow') {
        admissions.push({ key, from, at: machineSeconds(), cost: 1 });
      }
    }
    return admissions;
  },
  /**
   * Calls the methods for random keys without end, and sends a sign of life after each thousand calls. On a busy machine
   * another process may not run for so long that its part of the table is stalled; this is an answer, too.
   */
  load(methods, keys) {
    const limiter = limiters.at(-1);
    const round = () => {
      for (let n = 0; n < 1000; n += 1) {
        const method = methods[Math.floor(Math.random() * methods.length)];
        const key = `${Math.floor(Math.random() * keys)}`;
        try {
          limiter[method](limiter instanceof RuleLimiter ? keysOf(key) : key);
        } catch (error) {
          if (error.code !== 'ERR_LIMITER_SHARED') throw error;
        }
      }
      loads += 1;
      send({ loads });
      setImmediate(round);
    };
    setImmediate(round);
  },
};

(parentPort ?? process).on('message', ({ id, command, args }) => {
  try {
    send({ id, value: COMMANDS[command](...args) });
  } catch (error) {
    send({ id, error: { code: error.code, message: error.message } });
  }
});
if (!parentPort) process.on('disconnect', () => process.exit());
process.on('warning', ({ code, message }) => send({ warning: { code, message } }));
send({ isReady: true });

/** Two scopes of a RuleLimiter, in which a key has different others. */
function keysOf(key) {
  return { connection: key, account: `${Math.floor(Math.random() * 50)}` };
}

/** Seconds of a clock that all processes of the machine have in common. */
function machineSeconds() {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds + nanoseconds / 1e9;
}
