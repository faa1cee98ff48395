// The order book that the relay sends in answer to `!orderbook`. Each answer is signed for its peer, so that it cannot be
// cached: this is the expensive work that a limit has to protect.

import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

const OFFERS = Array.from({ length: 10 }, (_, id) => ({
  id,
  type: 'sw0reloffer',
  minSize: 27_300,
  maxSize: 1_000_000 * (id + 1),
  fee: 0.0001 * (id + 1),
}));

export class Orderbook {
  /** PEM. */
  readonly publicKey: string;
  readonly #privateKey: KeyObject;

  constructor() {
    // The curve of Bitcoin, which JoinMarket's signatures use too.
    const keys = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });
    this.publicKey = keys.publicKey.export({ type: 'spki', format: 'pem' }).toString();
    this.#privateKey = keys.privateKey;
  }

  /** Returns the order book for one peer, and its signature (SHA-256, base64). */
  answer(nick: string): { book: string; signature: string } {
    const book = JSON.stringify({ for: nick, at: new Date().toISOString(), offers: OFFERS });
    return {
      book,
      signature: sign('sha256', Buffer.from(book), this.#privateKey).toString('base64'),
    };
  }
}
