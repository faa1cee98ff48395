// The order book the relay answers `!orderbook` with. Each answer is signed for the peer that
// asked, so none can be kept and sent again: this is the work that a limit has to protect.

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
    // The curve of Bitcoin, and so of JoinMarket's own signatures.
    const keys = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });
    this.publicKey = keys.publicKey.export({ type: 'spki', format: 'pem' }).toString();
    this.#privateKey = keys.privateKey;
  }

  /** The book for one peer, and its signature (SHA-256, base64). */
  answer(nick: string): { book: string; signature: string } {
    const book = JSON.stringify({ for: nick, at: new Date().toISOString(), offers: OFFERS });
    return {
      book,
      signature: sign('sha256', Buffer.from(book), this.#privateKey).toString('base64'),
    };
  }
}
