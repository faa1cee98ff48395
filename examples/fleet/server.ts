// Starts a private redis-server or valkey-server on a free port of this machine. It runs in a temporary folder and stores
// nothing on disk by itself.

import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { type EventEmitter, once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';

export const INSTALL_ADVICE =
  'install redis-server (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis) or ' +
  'valkey-server, or name a server in REDIS_URL';

/**
 * Returns the server's program: that of RELAY_LIMITER_STORE, a name or a path, otherwise one on the PATH, if there is any.
 * @throws if the program of RELAY_LIMITER_STORE is not found.
 */
export function findServer(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const named = env['RELAY_LIMITER_STORE'] || undefined;
  const folders = (env['PATH'] ?? '').split(delimiter);
  const names = named === undefined ? ['redis-server', 'valkey-server'] : [named];
  const files = names.flatMap((name) => folders.map((folder) => resolve(folder, name)));
  const found = files.find(isExecutable);
  if (named !== undefined && found === undefined) {
    throw new Error(`RELAY_LIMITER_STORE must be a program on the PATH or its path, got ${named}`);
  }
  return found;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Below the ports of outgoing connections: such a connection could take the port while the server is stopped. */
const PORTS = { from: 15_000, to: 30_000 };

/** A TCP port of 127.0.0.1 on which a server may listen, stop and listen again. */
export interface ReservedPort {
  readonly port: number;
  release(): void;
}

/**
 * Reserves a port that is free. No other caller, in whichever process, gets it before it is released or this process ends:
 * the UDP port with its number is in use until then.
 */
export async function reservePort(): Promise<ReservedPort> {
  for (;;) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    const holder = createSocket('udp4').unref();
    const isReserved = succeeds(holder);
    holder.bind({ port, address: '127.0.0.1', exclusive: true });
    if ((await isReserved) && (await isFree(port))) return { port, release: () => holder.close() };
    holder.close();
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const isListening = succeeds(server);
  server.listen(port, '127.0.0.1');
  if (!(await isListening)) return false;
  server.close();
  await once(server, 'close');
  return true;
}

/** Whether a socket listens. */
function succeeds(socket: EventEmitter): Promise<boolean> {
  return new Promise((resolve) => {
    socket.once('listening', () => resolve(true));
    socket.once('error', () => resolve(false));
  });
}

/** The parts of a server that tests and demonstrations use. */
export interface Store {
  readonly url: string;
  close(): Promise<void>;
}

export class StoreServer implements Store {
  readonly #reserved: ReservedPort;
  readonly #program: string;
  readonly #flags: readonly string[];
  readonly #env: NodeJS.ProcessEnv;
  readonly #folder: string;
  #child: ChildProcess | undefined;

  private constructor(
    program: string,
    reserved: ReservedPort,
    flags: readonly string[],
    env: NodeJS.ProcessEnv,
  ) {
    this.#program = program;
    this.#reserved = reserved;
    this.#flags = flags;
    this.#env = env;
    this.#folder = mkdtempSync(join(tmpdir(), 'relay-limiter-store-'));
  }

  /**
   * Starts a server; resolves when it answers. `flags`: flags of the program, such as `--requirepass`. `env`: variables
   * beside those of this process.
   * @throws if it ends at once.
   */
  static async start(
    program: string,
    flags: readonly string[] = [],
    env: NodeJS.ProcessEnv = {},
  ): Promise<StoreServer> {
    const server = new StoreServer(program, await reservePort(), flags, env);
    try {
      await server.start();
      return server;
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  get port(): number {
    return this.#reserved.port;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts the server again on the same port, with what it has saved by a command. @throws if it ends at once. */
  async start(): Promise<void> {
    const keepNothing = ['--save', '', '--appendonly', 'no'];
    const place = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.#folder];
    const child = spawn(this.#program, [...place, ...keepNothing, ...this.#flags], {
      stdio: 'ignore',
      env: { ...process.env, ...this.#env },
    });
    this.#child = child;
    const failed = once(child, 'exit').then(([code]) => {
      throw new Error(`${this.#program} ended with code ${code}`);
    });
    // After the start nothing awaits `failed`; its rejection must not count as unhandled.
    failed.catch(() => {});
    await Promise.race([this.#answers(), failed]);
  }

  /** Kills the server; its data is lost. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** Pauses or continues the server; its connections stay open. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(name);
  }

  async close(): Promise<void> {
    await this.kill();
    this.#reserved.release();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** A server that takes connections may still end: it opens its other ports later. */
  async #answers(): Promise<void> {
    for (;;) {
      const socket = createConnection(this.port, '127.0.0.1', () => socket.write('PING\r\n'));
      const hasAnswered = await new Promise<boolean>((resolve) => {
        socket.once('data', () => resolve(true));
        socket.once('error', () => resolve(false));
        socket.once('end', () => resolve(false));
      });
      socket.destroy();
      if (hasAnswered) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
