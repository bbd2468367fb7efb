/** A machine's memory in a file: save, restore, suspend, resume (Xen 4.4 `XendDomain.py`, `XendCheckpoint.py`). */
import { access, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { bytesOf, XenError } from '@xenhost/base';
import { ShutdownReason } from '@xenhost/libxenctrl';
import { parseSxp, prettySxp, type Sxp } from '@xenhost/sxp';
import { CpuUserRegs, VcpuGuestContext } from '@xenhost/xen-abi';
import { parseVmConfig } from '../config/parse.ts';
import { storedConfigSxp } from '../config/sxp.ts';
import type { VmConfig } from '../config/types.ts';
import { waitForDevices } from '../device/controller.ts';
import { InvalidDomainError, XendError, messageOf } from '../errors.ts';
import { takeNumbers, withNumbers } from '../image/device-numbers.ts';
import {
  FileSink, FileSource, MAX_CONFIG_BYTES, SAVE_SIGNATURE, VALID_ASSISTS, type ImageSource,
} from '../image/format.ts'; // prettier-ignore
import { readImageIndex, restoreGuestImage } from '../image/restore.ts';
import { writeGuestImage } from '../image/save.ts';
import { SUSPEND_POLL_MS, SUSPEND_TIMEOUT_MS } from '../limits.ts';
import type { DomainManager } from './manager.ts';
import { domainPath, type Live, type Vm } from './vm.ts';
import { xcErrorText } from './xc-error.ts';

/** What SCHEDOP_shutdown answers a guest that goes on in the same domain (SUSPEND_CANCEL). */
const SUSPEND_CANCELLED = 1n;

/** strerror's text of a node error, as Python's OSError carries it. */
export function osText(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  const texts: Readonly<Record<string, string>> = {
    ENOENT: 'No such file or directory', EACCES: 'Permission denied', EISDIR: 'Is a directory', EROFS: 'Read-only file system',
    ENOTDIR: 'Not a directory', ENOSPC: 'No space left on device', ENAMETOOLONG: 'File name too long', EPERM: 'Operation not permitted',
    ECONNREFUSED: 'Connection refused', ECONNRESET: 'Connection reset by peer', EPIPE: 'Broken pipe', EHOSTUNREACH: 'No route to host', ETIMEDOUT: 'timed out', ENOTFOUND: 'Name or service not known',
    EAI_AGAIN: 'Temporary failure in name resolution', EINVAL: 'Invalid argument', ERR_INVALID_ARG_VALUE: 'Invalid argument',
  }; // prettier-ignore
  return texts[code ?? ''] ?? messageOf(error);
}

/** Throws XendError. */
export async function running(manager: DomainManager, vm: Vm, what: string, asked: string): Promise<void> {
  if (vm.live?.domid === 0) throw new XendError(`Cannot ${what} privileged domain ${asked}`);
  await manager.refresh();
  if (!vm.live || vm.state !== 'running') throw new XendError('Domain is not running');
}

/** Writes a running machine to a file; it ends, or with `goOn` runs on. Throws XendError. */
export async function save(manager: DomainManager, vm: Vm, asked: string, path: string, goOn: boolean): Promise<void> {
  await running(manager, vm, 'save', asked);
  let file: FileHandle;
  try {
    file = await open(path, 'w', 0o600);
  } catch (error) {
    throw new XendError(`can't write guest state file ${path}: ${osText(error)}`, { cause: error });
  }
  try {
    await vm.lock.run(async () => {
      await writeTo(manager, vm, file, path, goOn);
      if (!goOn) await manager.forgetTransient(vm);
    });
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

/** What stands before the guest's memory. */
export function imageHead(config: Sxp): Buffer {
  const text = Buffer.from(prettySxp(config));
  const length = Buffer.alloc(4);
  length.writeInt32BE(text.length);
  return Buffer.concat([Buffer.from(SAVE_SIGNATURE, 'latin1'), length, text]);
}

/** The guest suspends itself, its memory is written, and it ends; when anything fails it goes on. */
async function writeTo(manager: DomainManager, vm: Vm, file: FileHandle, path: string, goOn: boolean): Promise<void> {
  const live = vm.live;
  if (!live) throw new XendError('Domain is not running');
  const { xc, log } = manager.ports;
  await suspendGuest(manager, vm, live);
  try {
    const sink = new FileSink(file);
    await sink.bytes(imageHead(storedConfigSxp(await withNumbers(vm, manager.ports.store))));
    await writeGuestImage(xc, live.domid, sink);
    await file.sync();
  } catch (error) {
    await goOnInPlace(manager, live).catch((failure: unknown) => {
      log.error('XendCheckpoint', `Domain ${vm.name} (${live.domid}) cannot go on`, failure);
    });
    if (error instanceof XendError) throw error;
    const text = error instanceof XenError ? xcErrorText(error) : osText(error);
    throw new XendError(`can't write guest state file ${path}: ${text}`, { cause: error });
  }
  log.info('XendCheckpoint', `Domain ${vm.name} (${live.domid}) saved to ${path}`);
  if (goOn) await goOnInPlace(manager, live);
  else await manager.endLocked(vm);
}

/** Asks the guest by control/shutdown and waits until it has. Throws XendError. */
export async function suspendGuest(manager: DomainManager, vm: Vm, live: Live): Promise<void> {
  const { ports } = manager;
  const { xc, store } = ports;
  const node = `${domainPath(live.domid)}/control/shutdown`;
  await store.write(node, 'suspend');
  for (let waitedMs = 0; waitedMs < SUSPEND_TIMEOUT_MS; waitedMs += SUSPEND_POLL_MS) {
    const info = await xc.domainGetinfo(live.domid);
    if (!info) throw new XendError(`Domain ${vm.name} is gone`);
    if (info.crashed || (info.shutdown && info.shutdownReason !== ShutdownReason.suspend)) {
      throw new XendError(`Domain ${vm.name} shut down instead of suspending`);
    }
    if (info.shutdown) {
      live.info = info;
      live.exitHandled = true;
      return;
    }
    await ports.sleep(SUSPEND_POLL_MS);
  }
  await store.write(node, '');
  throw new XendError(`Domain ${vm.name} did not suspend within ${SUSPEND_TIMEOUT_MS / 1000} seconds`);
}

/** xc_domain_resume, the fast one: the guest's call that suspended says that nothing came of it. */
export async function goOnInPlace(manager: DomainManager, live: Live): Promise<void> {
  const { xc, store } = manager.ports;
  const context = await xc.vcpuGetcontext(live.domid, 0);
  const at = VcpuGuestContext.offsets.user_regs + CpuUserRegs.offsets.rax;
  bytesOf(context).dv.setBigUint64(at, SUSPEND_CANCELLED, true);
  VcpuGuestContext.view(bytesOf(context), 0).vm_assist &= VALID_ASSISTS;
  await xc.vcpuSetcontext(live.domid, 0, context);
  await xc.domainResume(live.domid);
  await store.resume(live.domid);
  live.info = { ...live.info, shutdown: false, shutdownReason: 0 };
  live.exitHandled = false;
}

/** Makes a machine of a file that save wrote. Throws XendError. */
export async function restore(manager: DomainManager, path: string, paused: boolean): Promise<Vm> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw new XendError(`can't read guest state file ${path}: ${osText(error)}`, { cause: error });
  }
  try {
    return await readFrom(manager, file, paused);
  } catch (error) {
    if (error instanceof XendError) throw error;
    manager.ports.log.error('XendCheckpoint', `Restore of ${path} failed`, error);
    throw new XendError('Restore failed', { cause: error });
  } finally {
    await file.close();
  }
}

async function readFrom(manager: DomainManager, file: FileHandle, paused: boolean): Promise<Vm> {
  const source = new FileSource(file);
  const { config } = await readConfig(source);
  const vm = await restoreFrom(manager, source, config);
  try {
    if (!paused && vm.live) await manager.ports.xc.domainUnpause(vm.live.domid);
    return vm;
  } catch (error) {
    await manager.destroy(vm);
    throw error;
  }
}

/**
 * A machine of an image whose head was read: paused, its devices connected. Calls `whenRead` when it has the last byte of
 * it. Throws; nothing is left then.
 */
export async function restoreFrom(
  manager: DomainManager,
  source: ImageSource,
  saved: VmConfig,
  whenRead: () => void = () => undefined,
): Promise<Vm> {
  const { config, numbers } = takeNumbers(saved);
  if (Number(config.image.platform.get('nomigrate') ?? 0) !== 0) {
    throw new XendError('cannot restore non-migratable domain');
  }
  const { xc, store } = manager.ports;
  const index = await readImageIndex(source);
  whenRead();
  const vm = await manager.createFrom(config, (options) => restoreGuestImage(xc, source, index, options), numbers);
  try {
    await waitForDevices(vm, store, manager.settings.deviceCreateTimeoutMs);
    return vm;
  } catch (error) {
    await manager.destroy(vm);
    throw error;
  }
}

/** What stands before the guest's memory, as it was written and as it is read. Throws XendError. */
export async function readConfig(source: ImageSource): Promise<{ readonly sxp: Sxp; readonly config: VmConfig }> {
  const signature = (await source.bytes(SAVE_SIGNATURE.length).catch(() => Buffer.alloc(0))).toString('latin1');
  if (signature !== SAVE_SIGNATURE) throw new XendError(`not a valid guest state file: found '${signature}'`);
  const length = (await source.bytes(4)).readInt32BE();
  if (length <= 0 || length > MAX_CONFIG_BYTES) throw new XendError('not a valid guest state file: config length');
  const text = (await source.bytes(length)).toString('utf8');
  try {
    const sxp = parseSxp(text);
    return { sxp, config: parseVmConfig(sxp) };
  } catch (error) {
    throw new XendError(`not a valid guest state file: config parse: ${messageOf(error)}`, { cause: error });
  }
}

/** Saves a managed machine beside its configuration. Throws XendError. */
export async function suspend(manager: DomainManager, vm: Vm, asked: string): Promise<void> {
  await running(manager, vm, 'suspend', asked);
  if (!vm.managed) throw new XendError('Domain is not managed by Xend lifecycle support.');
  const path = manager.checkpointPath(vm);
  // A xend that dies meanwhile leaves no half of it under the name that counts.
  const unfinished = `${path}.new`;
  let file: FileHandle;
  try {
    file = await open(unfinished, 'w', 0o600);
  } catch (error) {
    throw new XendError(`can't write guest state file ${path}: ${osText(error)}`, { cause: error });
  }
  try {
    await vm.lock.run(async () => {
      await writeTo(manager, vm, file, path, false);
      await rename(unfinished, path);
      vm.suspended = true;
    });
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

/** Brings a suspended machine back. Every error of it is prefixed, an unknown domain's too. */
export async function resume(manager: DomainManager, asked: string, paused: boolean): Promise<void> {
  try {
    const vm = manager.find(asked);
    if (!vm) throw new InvalidDomainError(asked);
    if (vm.live?.domid === 0) throw new XendError(`Cannot resume privileged domain ${asked}`);
    if (vm.live || vm.state !== 'suspended') throw new XendError('Cannot resume domain that is not suspended.');
    const path = manager.checkpointPath(vm);
    await access(path).catch((error: unknown) => {
      throw new XendError('Domain was not suspended by Xend', { cause: error });
    });
    await restore(manager, path, paused);
    await rm(path, { force: true });
    vm.suspended = false;
  } catch (error) {
    const text = error instanceof InvalidDomainError ? error.asked : messageOf(error);
    throw new XendError(`Error occurred when resuming: ${text}`, { cause: error });
  }
}
