/**
 * A machine's memory in a file: what save, restore, suspend, resume and migrate check and say (Xen 4.4 `XendDomain.py`,
 * `XendCheckpoint.py`).
 */
import { access, open } from 'node:fs/promises';
import { connect } from 'node:net';
import { InvalidDomainError, XendError, messageOf } from '../errors.ts';
import type { DomainManager } from './manager.ts';
import type { Vm } from './vm.ts';

/** First bytes of a file of a saved guest. */
export const SAVE_SIGNATURE = 'LinuxGuestRecord';
const RELOCATION_PORT = 8002;
const RELOCATION_SSL_PORT = 8003;
const CONNECT_TIMEOUT_MS = 30_000;
const UNSUPPORTED = 'guest images are not supported in this version';

/** strerror's text of a node error, as Python's OSError carries it. */
function osText(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  const texts: Readonly<Record<string, string>> = {
    ENOENT: 'No such file or directory', EACCES: 'Permission denied', EISDIR: 'Is a directory', EROFS: 'Read-only file system',
    ENOTDIR: 'Not a directory', ENOSPC: 'No space left on device', ENAMETOOLONG: 'File name too long', EPERM: 'Operation not permitted',
    ECONNREFUSED: 'Connection refused', EHOSTUNREACH: 'No route to host', ETIMEDOUT: 'timed out', ENOTFOUND: 'Name or service not known',
    EAI_AGAIN: 'Temporary failure in name resolution', EINVAL: 'Invalid argument', ERR_INVALID_ARG_VALUE: 'Invalid argument',
  }; // prettier-ignore
  return texts[code ?? ''] ?? messageOf(error);
}

async function running(manager: DomainManager, vm: Vm, what: string, asked: string): Promise<void> {
  if (vm.live?.domid === 0) throw new XendError(`Cannot ${what} privileged domain ${asked}`);
  await manager.refresh();
  if (!vm.live || vm.state !== 'running') throw new XendError('Domain is not running');
}

export async function save(manager: DomainManager, vm: Vm, asked: string, file: string, _goOn: boolean): Promise<void> {
  await running(manager, vm, 'save', asked);
  await writable(file);
  throw new XendError(`Cannot save domain ${asked}: ${UNSUPPORTED}`);
}

/** Whether the file can be written; nothing of it is touched. Throws XendError. */
async function writable(path: string): Promise<void> {
  try {
    await (await open(path, 'a')).close();
  } catch (error) {
    throw new XendError(`can't write guest state file ${path}: ${osText(error)}`, { cause: error });
  }
}

export async function restore(_manager: DomainManager, file: string, _paused: boolean): Promise<Vm> {
  let signature: string;
  try {
    const handle = await open(file, 'r');
    try {
      const bytes = Buffer.alloc(SAVE_SIGNATURE.length);
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
      signature = bytes.toString('latin1', 0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw new XendError(`can't read guest state file ${file}: ${osText(error)}`, { cause: error });
  }
  if (signature !== SAVE_SIGNATURE) {
    throw new XendError(`not a valid guest state file: found '${signature}'`);
  }
  throw new XendError(`Cannot restore ${file}: ${UNSUPPORTED}`);
}

export async function suspend(manager: DomainManager, vm: Vm, asked: string): Promise<void> {
  await running(manager, vm, 'suspend', asked);
  if (!vm.managed) throw new XendError('Domain is not managed by Xend lifecycle support.');
  throw new XendError(`Cannot suspend domain ${asked}: ${UNSUPPORTED}`);
}

/** Every error of resume is prefixed, an unknown domain's too. */
export async function resume(manager: DomainManager, asked: string, _paused: boolean): Promise<void> {
  try {
    const vm = manager.find(asked);
    if (!vm) throw new InvalidDomainError(asked);
    if (vm.live?.domid === 0) throw new XendError(`Cannot resume privileged domain ${asked}`);
    if (vm.state !== 'suspended') throw new XendError('Cannot resume domain that is not suspended.');
    await access(manager.checkpointPath(vm)).catch((error: unknown) => {
      throw new XendError('Domain was not suspended by Xend', { cause: error });
    });
    throw new XendError(UNSUPPORTED);
  } catch (error) {
    const text = error instanceof InvalidDomainError ? error.asked : messageOf(error);
    throw new XendError(`Error occurred when resuming: ${text}`, { cause: error });
  }
}

export interface MigrateOptions {
  readonly live: boolean;
  /** 0: the relocation port. */
  readonly port: number;
  readonly node: number;
  readonly ssl: boolean;
  readonly changeHomeServer: boolean;
}

export async function migrate(
  manager: DomainManager,
  vm: Vm,
  asked: string,
  host: string,
  options: MigrateOptions,
): Promise<void> {
  await running(manager, vm, 'migrate', asked);
  if (options.changeHomeServer && !vm.managed) throw new XendError('Domain is not a managed domain');
  const port = options.port === 0 ? (options.ssl ? RELOCATION_SSL_PORT : RELOCATION_PORT) : options.port;
  await reach(host, port);
  throw new XendError(`Cannot migrate domain ${asked}: ${UNSUPPORTED}`);
}

/** Whether anybody listens there. Throws XendError. */
async function reach(host: string, port: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      if (!(port > 0 && port < 65536)) throw new XendError("can't connect: port must be 0-65535");
      const socket = connect({ host, port, timeout: CONNECT_TIMEOUT_MS });
      socket.once('connect', () => {
        socket.destroy();
        resolve();
      });
      socket.once('timeout', () => socket.destroy(Object.assign(new Error('timed out'), { code: 'ETIMEDOUT' })));
      socket.once('error', reject);
    });
  } catch (error) {
    if (error instanceof XendError) throw error;
    throw new XendError(`can't connect: ${osText(error)}`, { cause: error });
  }
}
