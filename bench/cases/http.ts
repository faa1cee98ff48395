// What a limit costs a server: its middleware alone, and whole servers with and without.

import { type Client, clientsOf, FakeResponse, LIMITED, type Pass, proven } from '../limited.js';
import type { Case, Round } from './case.js';

const BATCH = 1_000;
const BATCHES = 100;
/** More than anybody asks for here; of 15 digits, which headers can say. */
const NO_LIMIT = 1e12;

export const http: Case = {
  name: 'http',
  title: 'middleware alone, all requests allowed, clients on connections that stay',
  sizes: [1_000],
  contestants: () => LIMITED,
  rounds: 7,
  fresh: false,
  metrics: [{ name: 'ns', unit: 'ns', label: 'processor time a request' }],
  async prepare(contestant, size) {
    const pass = await proven(contestant, NO_LIMIT);
    const clients = clientsOf(size);
    const round = async (): Promise<Round> => {
      const before = process.cpuUsage();
      for (let n = 0; n < BATCHES; n += 1) await passAll(pass, clients);
      const { user, system } = process.cpuUsage(before);
      return { figures: { ns: ((user + system) * 1e3) / (BATCH * BATCHES) } };
    };
    // The first is V8's.
    await round();
    return round;
  },
};

/** One request after the other, as soon as the one before has passed. */
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
