/** `--gdb`: the socket behind the debugger. */
import { createServer, type Server, type Socket } from 'node:net';
import { Debugger } from '#vmm/gdb/debugger';
import type { Machine, RunResult, Until } from '#vmm/machine/machine';
import { CommandError } from './exit.ts';
import { stderr } from './output.ts';

export interface GdbEndpoint {
  readonly host: string;
  readonly port: number;
}

/** `[host:]port`; the port alone listens to this machine only. */
export function parseGdbEndpoint(text: string): GdbEndpoint {
  const match = /^(?:(.*):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (!match || port > 65535)
    throw new CommandError('usage', `--gdb: expected [host:]port, found ${JSON.stringify(text)}`);
  return { host: match[1] || '127.0.0.1', port };
}

export class GdbServer {
  readonly #server: Server;
  #client: Socket | undefined;
  #debugger: Debugger | undefined;
  readonly #isWaiting: boolean;
  #wake: (() => void) | undefined;

  private constructor(server: Server, isWaiting: boolean) {
    this.#server = server;
    this.#isWaiting = isWaiting;
    server.on('connection', (socket) => this.#connected(socket));
  }

  /** Listens. @throws CommandError where the port cannot be had. */
  static async open({ host, port }: GdbEndpoint, isWaiting: boolean): Promise<GdbServer> {
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) =>
        reject(new CommandError('resource', `--gdb: cannot listen on ${host}:${port} (${error.code})`)),
      );
      server.listen(port, host, resolve);
    });
    const address = server.address();
    const chosen = typeof address === 'object' && address ? address.port : port;
    stderr.line(`gdb: listening on ${host}:${chosen}${isWaiting ? ', the guest waits' : ''}`);
    return new GdbServer(server, isWaiting);
  }

  #connected(socket: Socket): void {
    if (this.#client || !this.#debugger) {
      socket.destroy();
      return;
    }
    this.#client = socket;
    this.#debugger.connect();
    socket.on('data', (bytes) => {
      this.#debugger?.receive(bytes);
      this.#wake?.();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#client = undefined;
      this.#debugger?.disconnect();
      this.#wake?.();
    });
  }

  /** The machine that is debugged from now on. */
  attach(machine: Machine): void {
    if (this.#debugger) this.#debugger.replace(machine);
    else this.#debugger = new Debugger(machine, (bytes) => void this.#client?.write(bytes), this.#isWaiting);
  }

  /** Undefined while GDB has the word. */
  run(until: Until): RunResult | undefined {
    return this.#debugger!.run(until);
  }

  get isStopped(): boolean {
    return this.#debugger?.isStopped === true;
  }
  get isKilled(): boolean {
    return this.#debugger?.isKilled === true;
  }

  /** Until GDB says something, at most so long. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }

  close(): void {
    this.#client?.end();
    this.#server.close();
  }
}
