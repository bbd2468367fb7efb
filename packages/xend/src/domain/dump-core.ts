/** A core of a domain: for people (`xm dump-core`) and for on_crash's coredump-* (Xen 4.4 `XendDomainInfo.dumpCore`). */
import { mkdir, open, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { XenError } from '@xenhost/base';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import { XendError, messageOf } from '../errors.ts';
import type { Hypervisor, XendPorts } from '../ports.ts';
import { DUMPCORE_IN_PROGRESS } from '../store/exit-notes.ts';
import { removeTree } from '../store/nodes.ts';
import { coreHead } from './core-file.ts';
import { INVALID_MFN, readGuestMemory } from './guest-memory.ts';
import type { DomainManager } from './manager.ts';
import { reset as resetVm } from './operations.ts';
import type { Live, Vm } from './vm.ts';
import { xcErrorText } from './xc-error.ts';

/** Pages that are read and written at once. */
const BATCH_PAGES = 256;

export interface DumpOptions {
  /** The domain runs on while its memory is read. */
  readonly live: boolean;
  readonly crash: boolean;
  readonly reset: boolean;
}

/** `xend.domain.dump`. Throws XendError. */
export async function dump(
  manager: DomainManager,
  vm: Vm,
  asked: string,
  file: string | undefined,
  options: DumpOptions,
): Promise<void> {
  if (vm.live?.domid === 0) throw new XendError(`Cannot dump core for privileged domain ${asked}`);
  await manager.refresh();
  const live = vm.live;
  if (!live || !['running', 'paused', 'crashed'].includes(vm.state))
    throw new XendError(`Domain '${asked}' is not started`);
  const { xc } = manager.ports;
  const pause = !options.live && vm.state === 'running';
  if (pause) await xc.domainPause(live.domid);
  try {
    await vm.lock.run(() => dumpCore(vm, live, manager.ports, manager.dumpDirectory, file));
    if (options.crash) await manager.destroy(vm);
    else if (options.reset) await resetVm(manager, vm, asked);
  } finally {
    if (pause && !options.crash && !options.reset) await xc.domainUnpause(live.domid);
  }
}

/** Writes the core; on failure what there is of it is renamed to `...-incomplete`. Throws XendError. */
export async function dumpCore(
  vm: Vm,
  live: Live,
  ports: XendPorts,
  directory: string,
  given?: string,
): Promise<string> {
  const path = given === undefined || given === '' ? defaultPath(vm, live, directory, ports) : given;
  if ((await stat(path).catch(() => undefined))?.isDirectory()) {
    throw new XendError(`Cannot dump core in a directory: ${path}`);
  }
  await ports.store.write(`${vm.vmPath}/${DUMPCORE_IN_PROGRESS}`, 'True');
  try {
    if (path !== given) await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeCore(live, ports.xc, path);
    ports.log.info('XendDomainInfo', `Core of domain ${vm.name} (${live.domid}) written to ${path}`);
    return path;
  } catch (error) {
    await rename(path, `${path}-incomplete`).catch(() => undefined);
    const text = error instanceof XenError ? xcErrorText(error) : messageOf(error);
    ports.log.error('XendDomainInfo', `core dump failed: id = ${live.domid} name = ${vm.name}: ${text}`);
    throw new XendError(`Failed to dump core: ${text}`, { cause: error });
  } finally {
    await removeTree(ports.store, `${vm.vmPath}/${DUMPCORE_IN_PROGRESS}`);
  }
}

/** NAME/YYYY-MMDD-HHMM.SS-NAME.DOMID.core. A name holds no slash, but may be dots. */
function defaultPath(vm: Vm, live: Live, directory: string, { clock }: XendPorts): string {
  const date = new Date(Number(clock.wallNs() / 1_000_000n));
  const two = (n: number): string => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}${two(date.getDate())}`;
  const time = `${two(date.getHours())}${two(date.getMinutes())}.${two(date.getSeconds())}`;
  const folder = /^\.+$/.test(vm.name) ? directory : join(directory, vm.name);
  return join(folder, `${day}-${time}-${vm.name}.${live.domid}.core`);
}

async function writeCore(live: Live, xc: Hypervisor, path: string): Promise<void> {
  const info = await xc.domainGetinfo(live.domid);
  if (!info) throw new XendError('the domain is gone');
  const memory = await readGuestMemory(xc, info);
  const p2m: [number, number][] = [];
  for (const [pfn, mfn] of memory.p2m.entries()) if (mfn !== INVALID_MFN) p2m.push([pfn, mfn]);
  const contexts: Uint8Array[] = [];
  for (let vcpu = 0; vcpu <= info.maxVcpuId; vcpu += 1) {
    const { online } = await xc.vcpuGetinfo(live.domid, vcpu);
    if (online) contexts.push(await xc.vcpuGetcontext(live.domid, vcpu));
  }
  const version = await xc.version();
  const { head } = coreHead({ bits: memory.bits, version, contexts, sharedInfo: memory.sharedInfo, p2m });
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(head);
    for (let at = 0; at < p2m.length; at += BATCH_PAGES) {
      await file.writeFile(
        await readPages(
          xc,
          live.domid,
          p2m.slice(at, at + BATCH_PAGES).map(([, mfn]) => mfn),
        ),
      );
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Pages of a domain; zeros for those that it has given away meanwhile, or never had. */
async function readPages(xc: Hypervisor, domid: number, mfns: readonly number[]): Promise<Uint8Array> {
  try {
    return await xc.readFrames(domid, Uint32Array.from(mfns));
  } catch (error) {
    if (!(error instanceof XenError)) throw error;
    const pages = await Promise.all(
      mfns.map((mfn) => xc.readFrames(domid, Uint32Array.of(mfn)).catch(() => new Uint8Array(PAGE_SIZE))),
    );
    return Buffer.concat(pages);
  }
}
