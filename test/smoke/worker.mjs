// A thread of smoke.mjs: replays one trace, and says how many operations that were.

import { parentPort, workerData } from 'node:worker_threads';
import * as library from 'relay-limiter';
import { readTrace, replay } from './replay.mjs';

const { engine, file } = workerData;
if (new library.RateLimiter().engine !== engine) throw new Error(`not ${engine}`);
parentPort.postMessage(replay(readTrace(file), library, engine));
