// The stream of events, opened again whenever it ends.

import type { Hello, Listing, Sample } from '../messages.js';

export interface Listener {
  hello(hello: Hello): void;
  sample(sample: Sample): void;
  listing(listing: Listing): void;
  /** What is wrong, for people; undefined: nothing. */
  trouble(why: string | undefined): void;
}

/** Milliseconds until a server that refused is asked again. */
const AGAIN = 3000;

const LOST = 'The connection is lost; trying again';
const REFUSALS: Readonly<Record<number, string>> = {
  401: 'The token is needed again: reload this page',
  403: 'The server shows this no longer to this machine',
  503: 'Too many look at this already; trying again',
};

export function watch(listener: Listener): void {
  const source = new EventSource('events');
  const on = <Data>(event: string, hear: (data: Data) => void) => {
    source.addEventListener(event, (message) => hear(JSON.parse(message.data)));
  };
  on<Hello>('hello', (hello) => {
    listener.trouble(undefined);
    listener.hello(hello);
  });
  on<Sample>('sample', (sample) => listener.sample(sample));
  on<Listing>('listing', (listing) => listener.listing(listing));
  source.onerror = () => {
    listener.trouble(LOST);
    // The browser tries again by itself, but not where it was refused, and then it does not say why.
    if (source.readyState !== EventSource.CLOSED) return;
    void reason().then((why) => listener.trouble(why));
    setTimeout(() => watch(listener), AGAIN);
  };
}

async function reason(): Promise<string> {
  try {
    const { status } = await fetch('events', { method: 'HEAD' });
    return REFUSALS[status] ?? LOST;
  } catch {
    return LOST;
  }
}
