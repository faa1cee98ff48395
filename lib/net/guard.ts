// Guards a TCP or TLS server of a line protocol: cuts connections that may not be, before its user hears
// of them, and makes the bytes of the others lines. Guarantees that `close` leaves the server as it was.

import { Server, type Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { connectionKey } from '../address/connection-key.js';
import { attempt } from '../common/callbacks.js';
import { limiterError, refused } from '../common/errors.js';
import { isInstance } from '../common/kinds.js';
import { callback, count, readOptions } from '../common/options.js';
import { type Refusal, UNKNOWN } from '../guard/door.js';
import { override } from '../guard/override.js';
import { ServerGuard } from '../guard/server-guard.js';
import { GUARD_OPTIONS, readSettings } from '../guard/settings.js';
import { type Decision, FAILED, PASSED, said } from '../guard/verdicts.js';
import { type Belonging, type Visitor, visitor } from '../guard/visitor.js';
import type {
  Farewell,
  LineCost,
  LineErrorSource,
  LineGuardOptions,
  LineKeyOf,
  LineSettings,
  LineVerdict,
} from './options.js';
import { GuardedLines } from './socket.js';

export interface LineGuard {
  /**
   * Closes a connection for breaking rules of your own: counts it among the expulsions of its address,
   * gives no more of its lines, and cuts it where it does not close in time. `words` go to `farewell`.
   * False where it is not guarded, or closed already.
   */
  expel(socket: Socket, words?: string): boolean;
  /** How many connections are guarded now. */
  readonly connections: number;
  /** Takes the guard off: nothing is limited from now on, and no lines are made. The server stays open. */
  close(): void;
}

/**
 * Limits the connections of a server, and makes each socket's bytes 'line' events, from the next connection
 * on: `socket.on('line', (line) => ...)`. Lines come only when the limits allow them, with their ends (LF
 * or CRLF) cut off; the last one need not have one. Listen to them at once when the connection comes, or pause
 * the socket until then, and leave its 'data' alone. A socket that is destroyed gives no more of them.
 * @throws `ERR_LIMITER_OPTION`, also for a server that has such a guard already
 */
export function guardLineServer(server: Server, options?: LineGuardOptions): LineGuard {
  if (!isInstance(server, Server)) {
    throw refused('ERR_LIMITER_OPTION', 'the server', server, 'a server of node:net or node:tls');
  }
  if (guardedServers.has(server)) {
    const accepted = 'a server without another guard of lines, or each line would come twice';
    throw refused('ERR_LIMITER_OPTION', 'the server', server, accepted);
  }
  const own = ['maxLineBytes', 'encoding', 'farewell'];
  const given = readOptions('guardLineServer', options, [...GUARD_OPTIONS, ...own]);
  return new Guard(server, {
    ...readSettings<LineCost, LineKeyOf, LineVerdict, LineErrorSource>(given),
    maxLineBytes: readLength(given),
    encoding: readEncoding(given),
    farewell: readFarewell(given),
  });
}

/** Until their guard is closed. */
const guardedServers = new WeakSet<Server>();

class Guard extends ServerGuard<Socket> implements LineGuard {
  readonly #settings: LineSettings;
  readonly #isTls: boolean;

  constructor(server: Server, settings: LineSettings) {
    super(settings);
    this.#settings = settings;
    const emit = server.emit as (...event: unknown[]) => boolean;
    // A TLS server greets at 'connection' and has a stream to read from at 'secureConnection'.
    this.#isTls = server instanceof TlsServer;
    const readable = this.#isTls ? 'secureConnection' : 'connection';
    const guarded = (...event: unknown[]) => {
      const [name, socket] = event as [string, Socket];
      const isWelcome = name !== 'connection' || this.#admit(socket);
      if (!isWelcome || (name === readable && !this.#attach(socket))) return true;
      return emit.apply(server, event);
    };
    guardedServers.add(server);
    this.hooked([override(server, 'emit', guarded), () => guardedServers.delete(server)]);
  }

  /** Whether the door lets a connection in; if not, it is ended here. */
  #admit(socket: Socket): boolean {
    if (this.isClosed) return true;
    const guest = this.#visitor(socket);
    const refusal = attempt(
      () => this.enter(guest, socket) ?? 'welcome',
      (error) => this.#failed(error, socket),
    );
    if (refusal === 'welcome') return true;
    this.#refuse(socket, guest, refusal ?? UNKNOWN);
    return false;
  }

  #refuse(socket: Socket, guest: Visitor, { reason, verdict }: Refusal): void {
    socket.on('error', () => {});
    const text = this.#farewell(socket, reason);
    if (text === undefined) socket.destroy();
    else this.#sayFarewell(socket, text);
    this.#tell(guest, guest.key, socket, { did: 'refused', reason, ...said(verdict) });
  }

  /** Of TLS nobody has shaken hands yet: text would break the protocol. */
  #farewell(socket: Socket, reason: Farewell['reason']): string | undefined {
    if (this.#isTls) return undefined;
    return attempt(
      () => this.#settings.farewell({ reason, words: undefined }),
      (error) => this.#failed(error, socket),
    );
  }

  /** What the peer has sent must be read, or its system throws away what it is sent. */
  #sayFarewell(socket: Socket, text: string): void {
    const cut = setTimeout(() => socket.destroy(), this.#settings.graceMilliseconds).unref();
    socket.once('close', () => clearTimeout(cut));
    socket.resume();
    socket.end(text);
  }

  /** Whether its user may have it. */
  #attach(socket: Socket): boolean {
    if (this.isClosed) return true;
    const guest = this.#visitor(socket);
    const make = (belonging: Belonging) => new GuardedLines(socket, this.#settings, belonging);
    const isGuarded = this.guard(socket, guest, (error) => this.#failed(error, socket), make);
    if (!isGuarded) socket.destroy();
    this.#tell(guest, connectionKey(socket), socket, isGuarded ? PASSED : FAILED);
    return isGuarded;
  }

  #failed(error: unknown, socket: Socket): void {
    this.#settings.onError(error, { socket });
  }

  #visitor(socket: Socket): Visitor {
    return visitor(socket.remoteAddress, this.#settings.subnets, socket);
  }

  #tell({ address }: Visitor, key: string, socket: Socket, decision: Decision): void {
    const { onVerdict } = this.#settings;
    if (onVerdict === undefined) return;
    const isThere = decision.did !== 'refused';
    const about = { kind: 'connection', key, address, data: undefined } as const;
    attempt(
      () => onVerdict({ ...about, socket: isThere ? socket : undefined, ...decision }),
      (error) => this.#failed(error, socket),
    );
  }
}

type Given = Readonly<Record<string, unknown>>;

function readLength(given: Given): number {
  const bytes = count(given, 'maxLineBytes', 65_536);
  if (bytes >= 1 && bytes <= 2 ** 30) return bytes;
  const message = `maxLineBytes must be from 1 to 2^30, got ${bytes}`;
  throw limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
}

function readEncoding({ encoding = 'utf8' }: Given): LineSettings['encoding'] {
  if (encoding === 'utf8' || encoding === 'latin1' || encoding === 'buffer') return encoding;
  throw refused('ERR_LIMITER_OPTION', 'encoding', encoding, "'utf8', 'latin1' or 'buffer'");
}

function readFarewell(given: Given): LineSettings['farewell'] {
  const { farewell } = given;
  if (typeof farewell === 'string') return () => farewell;
  return (
    callback<(farewell: Farewell) => string | undefined>(given, 'farewell') ?? (() => undefined)
  );
}
