// A guard without a server: fakes of the sockets of Bun and of the web standard, opened through the guard.

import {
  type Admission,
  type BunSocket,
  type ClientInfo,
  guardWebSockets,
  type SocketData,
  type SocketGuard,
  type SocketGuardOptions,
  type SocketVerdict,
} from 'relay-limiter/websocket';

type Close = readonly [code?: number, reason?: string];

/** A connection as a test sees it, whatever the kind of its socket. */
export interface Fake {
  readonly socket: { close(...how: Close): void };
  /** The arguments of each call of `close`. */
  readonly closes: Close[];
  /** The arguments after the socket with which the handler was called, and for a standard socket the same. */
  readonly received: unknown[][];
  /** How often the socket was terminated. */
  terminations: number;
  /** How often the handler of its end was called. */
  ends: number;
  receive(...messages: SocketData[]): void;
  /** The connection ends. */
  end(): void;
}

/** What the handler of a connection does, besides noting what it gets. */
export type OnMessage = (data: SocketData, value: unknown) => void;

export type Open = (guard: SocketGuard, classifies: boolean, onMessage?: OnMessage) => Opened;

/** The steps of an upgrade: what `guard.upgrade` is given, and the connection that comes of it. */
interface Opened {
  upgrade(admission: Admission): unknown;
  /** Undefined before the upgrade. */
  readonly fake: () => Fake | undefined;
}

/** `privateOnly`: whether `close` accepts only the codes that the standard allows. */
export function standard(privateOnly = false, readyState?: number): Open {
  return (guard, classifies, onMessage) => {
    let fake: Fake | undefined;
    return {
      fake: () => fake,
      upgrade(admission) {
        const target = new EventTarget();
        const closes: Close[] = [];
        const received: unknown[][] = [];
        const socket = Object.assign(target, {
          readyState,
          close(...how: Close) {
            const [code = 1000] = how;
            if (privateOnly && code !== 1000 && code < 3000) throw new Error('InvalidAccessError');
            closes.push(how);
          },
        });
        admission.guard(socket as never);
        socket.addEventListener('message', (event) => {
          const { data } = event as MessageEvent<SocketData>;
          const value = guard.valueOfMessage(event);
          received.push(classifies ? [data, value] : [data]);
          onMessage?.(data, value);
        });
        socket.addEventListener('close', () => {
          if (fake !== undefined) fake.ends += 1;
        });
        fake = {
          socket,
          closes,
          received,
          terminations: 0,
          ends: 0,
          receive(...messages) {
            for (const data of messages) {
              socket.dispatchEvent(new MessageEvent('message', { data, cancelable: true }));
            }
          },
          end: () => void socket.dispatchEvent(new Event('close')),
        };
        return { status: 101 };
      },
    };
  };
}

type Of = (socket: BunSocket, ...of: unknown[]) => unknown;

export function bun(): Open {
  return (guard, _, onMessage) => {
    let fake: Fake | undefined;
    return {
      fake: () => fake,
      upgrade(admission) {
        const closes: Close[] = [];
        const received: unknown[][] = [];
        const socket = {
          data: { admission },
          close: (...how: Close) => void closes.push(how),
          terminate() {
            if (fake !== undefined) fake.terminations += 1;
          },
        };
        const handlers = guard.handlers({
          message(_, ...of: unknown[]) {
            received.push(of);
            onMessage?.(of[0] as SocketData, of[1]);
          },
          close() {
            if (fake !== undefined) fake.ends += 1;
          },
        }) as unknown as Record<'open' | 'message' | 'close', Of>;
        fake = {
          socket,
          closes,
          received,
          terminations: 0,
          ends: 0,
          receive(...messages) {
            for (const data of messages) handlers.message(socket, data);
          },
          end: () => void handlers.close(socket, 1006, ''),
        };
        handlers.open(socket);
        return undefined;
      },
    };
  };
}

export const KINDS: readonly (readonly [string, Open])[] = [
  ['Bun', bun()],
  ['the web standard', standard()],
];

/** A guard, its verdicts, and the errors that `onError` got. */
export function guarded(options: SocketGuardOptions, open: Open) {
  const verdicts: SocketVerdict[] = [];
  const errors: unknown[] = [];
  const guard = guardWebSockets({
    warnings: false,
    onVerdict: (verdict) => verdicts.push(verdict),
    onError: (error) => errors.push((error as { code?: string }).code ?? (error as Error).message),
    ...options,
  });
  const classifies = options.classify !== undefined;
  /** Connects: the connection, or the response to a refused request. */
  const tryConnect = (
    info: ClientInfo | undefined = { address: '192.0.2.1' },
    headers: Record<string, string> = {},
    onMessage?: OnMessage,
  ): { fake: Fake | undefined; response: Response | undefined } => {
    const opened = open(guard, classifies, onMessage);
    const request = new Request('http://localhost/', { headers });
    const result = guard.upgrade(request, info, (admission) => opened.upgrade(admission));
    const fake = opened.fake();
    return { fake, response: fake === undefined ? (result as Response) : undefined };
  };
  const connect = (...of: Parameters<typeof tryConnect>) => tryConnect(...of).fake as Fake;
  const refused = (...of: Parameters<typeof tryConnect>) => tryConnect(...of).response as Response;
  return { guard, verdicts, errors, connect, refused };
}
