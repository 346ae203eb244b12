/** `--control`: the unix socket that the clients of vmm/control come through. */
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { ControlConnection, type ControlEvent } from '#vmm/control/connection';
import type { ControlTarget } from '#vmm/control/verbs';
import type { Machine } from '#vmm/machine/machine';
import { MachineError } from '#vmm/machine/machine-error';
import { CommandError } from './exit.ts';
import type { SavedFile } from './snapshot-file.ts';
import { version } from './version.ts';

/** sun_path of the smallest system, less its end. */
const longestPath = 103;
const mostClients = 16;
/** A client that does not read what it asked for is cut off. */
const longestBacklog = 64 << 20;

const listen = (server: Server, path: string): Promise<string | undefined> =>
  new Promise((resolve) => {
    const failed = (error: NodeJS.ErrnoException): void => resolve(error.code ?? error.message);
    server.once('error', failed);
    // The file is made by this call: nobody else may open it, not even for a moment.
    const mask = process.umask(0o177);
    server.listen(path, () => {
      server.off('error', failed);
      resolve(undefined);
    });
    process.umask(mask);
  });

/** Whether a socket was left behind by a run that is no more. */
const isAbandoned = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return resolve(false);
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });

export class ControlServer {
  readonly #server: Server;
  readonly #path: string;
  readonly #clients = new Map<Socket, ControlConnection>();
  #machine: Machine | undefined;
  #isStopped = false;
  #isQuit = false;
  #wake: (() => void) | undefined;
  /** Writes the machine into a file; set by the run. @throws CommandError */
  save: ((path: string) => SavedFile) | undefined;
  readonly #target: ControlTarget;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
    const machine = (): Machine => this.#machine!;
    const isStopped = (): boolean => this.#isStopped;
    this.#target = {
      version,
      get machine() {
        return machine();
      },
      get isStopped() {
        return isStopped();
      },
      stop: () => this.#setStopped(true),
      cont: () => this.#setStopped(false),
      quit: () => void (this.#isQuit = true),
      save: (path) => this.#save(path),
    };
    server.on('connection', (socket) => this.#connected(socket));
  }

  /** Listens. @throws CommandError where the socket cannot be made. */
  static async open(path: string): Promise<ControlServer> {
    // A longer one would be cut off without a word.
    if (Buffer.byteLength(path) > longestPath)
      throw new CommandError('usage', `--control: expected a path of at most ${longestPath} bytes, found ${path}`);
    const server = createServer();
    let failure = await listen(server, path);
    if (failure === 'EADDRINUSE' && (await isAbandoned(path))) {
      rmSync(path);
      failure = await listen(server, path);
    }
    if (failure !== undefined) {
      const why = failure === 'EADDRINUSE' ? 'there is something already' : `it cannot be made (${failure})`;
      throw new CommandError('resource', `--control: ${path}: expected a place for a socket, but ${why}`);
    }
    chmodSync(path, 0o600);
    // Where no run comes of it, nothing waits for clients, and nothing is left behind.
    server.unref();
    process.once('exit', () => rmSync(path, { force: true }));
    return new ControlServer(server, path);
  }

  #save(path: string): SavedFile {
    try {
      return this.save!(path);
    } catch (error) {
      if (error instanceof CommandError) throw new MachineError([error.message, ...error.more]);
      throw error;
    }
  }

  #setStopped(isStopped: boolean): void {
    if (this.#isStopped === isStopped) return;
    this.#isStopped = isStopped;
    this.event(isStopped ? 'STOP' : 'RESUME');
  }

  #connected(socket: Socket): void {
    if (!this.#machine || this.#clients.size >= mostClients) {
      socket.destroy();
      return;
    }
    socket.setEncoding('utf8');
    const client = new ControlConnection(this.#target, (text) => {
      if (socket.writableLength > longestBacklog) socket.destroy();
      else socket.write(text);
    });
    this.#clients.set(socket, client);
    socket.on('data', (text: string) => {
      client.receive(text);
      this.#wake?.();
    });
    socket.on('error', () => {});
    socket.on('close', () => void this.#clients.delete(socket));
  }

  /** The machine that is controlled from now on. */
  attach(machine: Machine): void {
    const isReboot = this.#machine !== undefined;
    this.#machine = machine;
    machine.hotPlug.onDeleted = (device) =>
      this.event('DEVICE_DELETED', { device, path: `/machine/peripheral/${device}` });
    if (isReboot) this.event('RESET');
  }

  event(name: ControlEvent, data: Readonly<Record<string, unknown>> = {}): void {
    for (const client of this.#clients.values()) client.event(name, data);
  }

  get isStopped(): boolean {
    return this.#isStopped && !this.#isQuit;
  }

  get isQuit(): boolean {
    return this.#isQuit;
  }

  /** So long, or until a client says something. */
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
    if (this.#machine) this.event('SHUTDOWN', { instructions: this.#machine.instructions });
    for (const socket of this.#clients.keys()) socket.end();
    this.#server.close();
    rmSync(this.#path, { force: true });
  }
}
