// Starts a private redis-server or valkey-server on a free port of this machine. It runs in a temporary folder and stores
// nothing on disk by itself.

import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
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
 * Reserves a port that is free. No other call, in any process, returns it until it is released or this process ends: a
 * UDP socket holds the same number.
 */
export async function reservePort(): Promise<ReservedPort> {
  for (;;) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    let holder: Socket | undefined = createSocket('udp4').unref();
    const release = () => {
      holder?.close();
      holder = undefined;
    };
    let isReserved = false;
    try {
      isReserved = (await binds(holder, port)) && (await isFree(port));
    } finally {
      if (!isReserved) release();
    }
    if (isReserved) return { port, release };
  }
}

/**
 * Whether nobody listens on a port. This process does not listen there to find out: a program that it starts meanwhile
 * inherits what is open, and would keep the port for a moment.
 */
function isFree(port: number): Promise<boolean> {
  const socket = createConnection(port, '127.0.0.1');
  return new Promise((resolve) => {
    socket.once('error', () => resolve(true));
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
  });
}

/** Windows keeps some ports for itself. */
const TAKEN = process.platform === 'win32' ? ['EADDRINUSE', 'EACCES'] : ['EADDRINUSE'];

/** Resolves to whether the socket gets the port: false if it is taken. Rejects with any other error. */
function binds(socket: Socket, port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    socket.once('listening', () => resolve(true));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (TAKEN.includes(error.code ?? '')) resolve(false);
      else reject(error);
    });
    socket.bind({ port, address: '127.0.0.1', exclusive: true });
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
   * @throws if it ends before it answers.
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

  /** Starts the server again on the same port, with what it has saved by a command. @throws if it ends before it answers. */
  async start(): Promise<void> {
    const keepNothing = ['--save', '', '--appendonly', 'no'];
    const place = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.#folder];
    const child = spawn(this.#program, [...place, ...keepNothing, ...this.#flags], {
      stdio: 'ignore',
      env: { ...process.env, ...this.#env },
    });
    this.#child = child;
    const failed = once(child, 'exit').then(([code, signal]) => {
      throw new Error(`${this.#program} ended with ${signal ?? `code ${code}`}`);
    });
    // After the start nothing awaits `failed`; its rejection must not count as unhandled.
    failed.catch(() => {});
    await Promise.race([this.#answers(child), failed]);
  }

  /** Kills the server; its data is lost. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || hasEnded(child)) return;
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

  /**
   * Resolves when the server answers, or has ended. A connection is not enough: the server of a cluster opens its second
   * port later, and ends if that port is taken.
   */
  async #answers(child: ChildProcess): Promise<void> {
    while (!hasEnded(child)) {
      const socket = createConnection(this.port, '127.0.0.1', () => socket.write('PING\r\n'));
      const hasAnswered = await new Promise<boolean>((resolve) => {
        // An error is an answer too: a server with a password refuses the PING.
        socket.once('data', (data) => resolve(/^[+-]/.test(String(data))));
        socket.once('error', () => resolve(false));
        socket.once('end', () => resolve(false));
      });
      socket.destroy();
      if (hasAnswered) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** Whether a process has ended, by itself or by a signal. */
export function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
