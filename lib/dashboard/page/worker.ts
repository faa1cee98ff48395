// A SharedWorker with one event stream for all windows of a browser that show the page. Over HTTP/1.1 a browser opens
// at most six connections to a server; with one stream per window, a seventh window would wait forever.

import { type Listener, watch } from './stream.js';

/** The message of a window: start or stop passing events to it. */
export type StreamRequest = 'open' | 'close';

/** The message to a window: a method of its listener and the argument. */
export interface ListenerCall {
  readonly call: keyof Listener;
  readonly data: unknown;
}

/** The windows that follow the stream. A crashed window stays here until all windows, and so the worker, are closed. */
const windows = new Set<MessagePort>();
let stop = () => {};

const forward = (call: keyof Listener) => (data: unknown) => {
  for (const port of windows) port.postMessage({ call, data } satisfies ListenerCall);
};
const listener: Listener = {
  hello: forward('hello'),
  sample: forward('sample'),
  listing: forward('listing'),
  trouble: forward('trouble'),
};

const scope = globalThis as unknown as { onconnect: (event: MessageEvent) => void };
scope.onconnect = ({ ports: [port] }) => {
  if (port === undefined) return;
  port.onmessage = ({ data }: MessageEvent<StreamRequest>) => {
    if (data === 'open') windows.add(port);
    else windows.delete(port);
    // A new window needs the event `hello`, which only a new stream sends.
    if (data === 'open' || windows.size === 0) stop();
    if (data === 'open') stop = watch(listener);
  };
};
