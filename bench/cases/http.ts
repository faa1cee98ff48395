// The cost of a limit in an HTTP server: only the middleware, without a server.

import { type Client, clientsOf, FakeResponse, LIMITED, type Pass, proven } from '../limited.js';
import type { Case, Round } from './case.js';

const BATCH = 1_000;
const BATCHES = 100;
/** A limit that is never reached. It has at most 15 digits, the maximum in header fields. */
const NO_LIMIT = 1e12;

export const http: Case = {
  name: 'http',
  title: 'middleware alone, all requests allowed, clients on open connections',
  sizes: [1_000],
  contestants: () => LIMITED,
  rounds: 7,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'processor time per request' }],
  async prepare(contestant, size) {
    const pass = await proven(contestant, NO_LIMIT);
    const clients = clientsOf(size);
    const round = async (): Promise<Round> => {
      const before = process.cpuUsage();
      for (let n = 0; n < BATCHES; n += 1) await passAll(pass, clients);
      const { user, system } = process.cpuUsage(before);
      return { figures: { ns: ((user + system) * 1e3) / (BATCH * BATCHES) } };
    };
    // The first round warms up V8's compiled code.
    await round();
    return round;
  },
};

/** Sends one request after the other, each as soon as the previous one has passed. */
function passAll(pass: Pass, clients: readonly Client[]): Promise<void> {
  return new Promise((resolve) => {
    let sent = 0;
    const goOn = () => {
      let atOnce = true;
      while (atOnce) {
        if (sent === BATCH) return resolve();
        const client = clients[sent % clients.length] as Client;
        sent += 1;
        let returned = false;
        atOnce = false;
        pass(client.request(), new FakeResponse(), () => {
          if (returned) goOn();
          else atOnce = true;
        });
        returned = true;
      }
    };
    goOn();
  });
}
