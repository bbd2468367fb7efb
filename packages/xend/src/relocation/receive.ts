/**
 * A machine that comes from another host (Xen 4.4 `XendCheckpoint.py`, restore with relocating): its image is taken in
 * whole, then it is restored, and it runs only when the other host has let go of it. Either it is here then, or nothing is.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { atomText, childValue } from '@xenhost/sxp';
import { osText, readConfig, restoreFrom } from '../domain/checkpoint.ts';
import type { DomainManager } from '../domain/manager.ts';
import type { Vm } from '../domain/vm.ts';
import { XendError } from '../errors.ts';
import { send, StreamSource, type SocketReader } from '../image/stream.ts';
import { MAX_RELOCATIONS, RELOCATION_IMAGE_TIMEOUT_MS } from '../limits.ts';
import { lineOf, MAX_LINE_BYTES, QUIT } from './protocol.ts';

const BYTES_PER_MIB = 2 ** 20;

/** What the sender does about the machine that it was told is here. */
type Verdict = 'lets go' | 'keeps it' | 'unknown';

/** What the sender says, or does, after its image. */
class End {
  readonly come: Promise<Verdict>;
  /** Once it is known. */
  verdict: Verdict | undefined;

  constructor(reader: SocketReader) {
    this.come = verdictOf(reader).then((verdict) => (this.verdict = verdict));
  }
}

export class Receiver {
  readonly #manager: DomainManager;
  #receiving = 0;

  constructor(manager: DomainManager) {
    this.#manager = manager;
  }

  /**
   * Takes a machine from a client that said `command`. The socket ends itself with an error when its timeout passes.
   * Throws what the client is to be told: nothing is left then.
   */
  async receive(command: string, socket: Socket, reader: SocketReader): Promise<void> {
    if (this.#receiving >= MAX_RELOCATIONS) throw new XendError('too many domains come at once');
    this.#receiving += 1;
    try {
      const spool = await openSpool(this.#manager.stateDirectory);
      try {
        await this.#take(command, socket, reader, spool);
      } finally {
        await spool.close();
      }
    } finally {
      this.#receiving -= 1;
    }
  }

  async #take(command: string, socket: Socket, reader: SocketReader, spool: FileHandle): Promise<void> {
    const manager = this.#manager;
    socket.setTimeout(RELOCATION_IMAGE_TIMEOUT_MS);
    await send(socket, lineOf(['ready', command]));
    const source = new StreamSource(reader, spool);
    const { sxp, config } = await readConfig(source);
    source.limit = Math.min(await manager.requireRoom(config), config.maxmemMiB * BYTES_PER_MIB);
    const wasManaged = manager.find(config.uuid)?.managed ?? false;
    let end: End | undefined;
    const vm = await restoreFrom(manager, source, config, () => {
      socket.setTimeout(0);
      end = new End(reader);
    });
    try {
      // Whoever went without a word has not been told that it is here.
      if (end?.verdict === 'unknown') throw new XendError('the connection broke');
      const isHome = atomText(childValue(sxp, 'change_home_server')) === 'True';
      if (isHome) await manager.define(vm.config);
      await send(socket, lineOf(['ok']));
    } catch (error) {
      await this.#drop(vm, wasManaged);
      throw error;
    }
    socket.setTimeout(RELOCATION_IMAGE_TIMEOUT_MS);
    await this.#obey(vm, (await end?.come) ?? 'unknown', wasManaged);
  }

  async #obey(vm: Vm, verdict: Verdict, wasManaged: boolean): Promise<void> {
    const { log, xc } = this.#manager.ports;
    const who = `Domain ${vm.name} (${vm.live?.domid ?? 'gone'})`;
    if (verdict === 'lets go') {
      if (vm.live) await xc.domainUnpause(vm.live.domid);
      log.info('XendCheckpoint', `${who} was received.`);
    } else if (verdict === 'keeps it') {
      log.warn('XendCheckpoint', `${who}: the other host keeps it: destroying it`);
      await this.#drop(vm, wasManaged);
    } else {
      // It may run there, or be lost with that host: only people can tell.
      log.error('XendCheckpoint', `${who} stays paused: the other host fell silent before it let go of it`);
    }
  }

  async #drop(vm: Vm, wasManaged: boolean): Promise<void> {
    await this.#manager.destroy(vm);
    if (vm.managed && !wasManaged) await this.#manager.undefine(vm);
  }
}

/** A file without a name: it goes with this process. */
async function openSpool(directory: string): Promise<FileHandle> {
  const path = join(directory, `relocation-${randomUUID()}`);
  try {
    await mkdir(directory, { recursive: true });
    const file = await open(path, 'wx+', 0o600);
    await rm(path);
    return file;
  } catch (error) {
    throw new XendError(`can't put a domain's memory aside in ${directory}: ${osText(error)}`, { cause: error });
  }
}

async function verdictOf(reader: SocketReader): Promise<Verdict> {
  try {
    const line = await reader.line(MAX_LINE_BYTES);
    return line === undefined || line.trim() === QUIT ? 'lets go' : 'keeps it';
  } catch (error) {
    return error instanceof XendError ? 'keeps it' : 'unknown';
  }
}
