// One stream for all windows of a browser that show this page, in a SharedWorker: over HTTP/1.1 a browser opens
// six connections to a server, and with a stream each a seventh window would wait for ever.

import { type Listener, watch } from './stream.js';

/** What a window says: whether it wants the stream. */
export type Wish = 'open' | 'close';

/** What a window hears: a method of its listener, and the argument. */
export interface News {
  readonly call: keyof Listener;
  readonly data: unknown;
}

/** Windows that want the stream. One that has crashed stays until all are gone, and the worker with them. */
const windows = new Set<MessagePort>();
let stop = () => {};

const tell = (call: keyof Listener) => (data: unknown) => {
  for (const port of windows) port.postMessage({ call, data } satisfies News);
};
const listener: Listener = {
  hello: tell('hello'),
  sample: tell('sample'),
  listing: tell('listing'),
  trouble: tell('trouble'),
};

const scope = globalThis as unknown as { onconnect: (event: MessageEvent) => void };
scope.onconnect = ({ ports: [port] }) => {
  if (port === undefined) return;
  port.onmessage = ({ data }: MessageEvent<Wish>) => {
    if (data === 'open') windows.add(port);
    else windows.delete(port);
    // A stream that begins anew tells a window that comes what the others know.
    if (data === 'open' || windows.size === 0) stop();
    if (data === 'open') stop = watch(listener);
  };
};
