/**
 * Moves a running machine to another host (Xen 4.4 `XendDomain.py` domain_migrate, `XendCheckpoint.py`): its guest suspends
 * itself, its image goes over the wire, and it ends here when the other host says that it is there. Until then whatever
 * fails leaves it running here.
 */
import { XenError } from '@xenhost/base';
import type { Sxp } from '@xenhost/sxp';
import { storedConfigSxp } from '../config/sxp.ts';
import { goOnInPlace, imageHead, osText, running, suspendGuest } from '../domain/checkpoint.ts';
import type { DomainManager } from '../domain/manager.ts';
import type { Live, Vm } from '../domain/vm.ts';
import { xcErrorText } from '../domain/xc-error.ts';
import { XendError } from '../errors.ts';
import { withNumbers } from '../image/device-numbers.ts';
import { writeGuestImage } from '../image/save.ts';
import { writeName } from '../store/nodes.ts';
import { FarHost } from './far-host.ts';

export interface MigrateOptions {
  readonly live: boolean;
  /** 0: the relocation port of xend-config.sxp. */
  readonly port: number;
  /** NUMA node over there; -1: any. */
  readonly node: number;
  /** Without it xend-config.sxp decides. */
  readonly ssl: boolean | undefined;
  /** Whether the machine becomes one of the other host's managed ones. */
  readonly changeHomeServer: boolean;
}

/** Throws XendError. */
export async function migrate(
  manager: DomainManager,
  vm: Vm,
  asked: string,
  host: string,
  options: MigrateOptions,
): Promise<void> {
  await running(manager, vm, 'migrate', asked);
  if (options.changeHomeServer && !vm.managed) throw new XendError('Domain is not a managed domain');
  const { relocation } = manager.settings;
  const ssl = options.ssl ?? relocation.ssl;
  const port = options.port === 0 ? (ssl ? relocation.sslPort : relocation.port) : options.port;
  const far = await FarHost.connect(host, port, ssl);
  try {
    await vm.lock.run(() => handOver(manager, vm, far, options));
  } finally {
    far.close();
  }
}

async function handOver(manager: DomainManager, vm: Vm, far: FarHost, options: MigrateOptions): Promise<void> {
  const { live, name } = vm;
  const { log } = manager.ports;
  if (!live || vm.state !== 'running') throw new XendError('Domain is not running');
  if (options.live) log.info('XendCheckpoint', `Domain ${name} (${live.domid}) stands still while it is moved`);
  const config = configOf(await withNumbers(vm, manager.ports.store), options);
  await call(manager, vm, live, `migrating-${name}`);
  try {
    await far.sink.bytes(imageHead(config));
    await suspendGuest(manager, vm, live);
    await sendMemory(manager, vm, live, far);
  } catch (error) {
    log.error('XendCheckpoint', `Domain ${name} (${live.domid}) could not be moved to ${far.host}`, error);
    await call(manager, vm, live, name);
    throw asXendError(await far.reasonFor(error));
  }
  try {
    await manager.endLocked(vm);
    vm.config = { ...vm.config, name };
    log.info('XendCheckpoint', `Domain ${name} (${live.domid}) moved to ${far.host}`);
    if (options.changeHomeServer) await manager.undefine(vm);
    else await manager.forgetTransient(vm);
  } finally {
    // Only now nothing here can write to its disks any more.
    await far.letGo();
  }
}

/** The guest is suspended; when this fails it runs again. */
async function sendMemory(manager: DomainManager, vm: Vm, live: Live, far: FarHost): Promise<void> {
  const { xc, log } = manager.ports;
  try {
    await writeGuestImage(xc, live.domid, far.sink);
    await far.done();
  } catch (error) {
    await far.cancel();
    await goOnInPlace(manager, live).catch((failure: unknown) => {
      log.error('XendCheckpoint', `Domain ${vm.name} (${live.domid}) cannot go on`, failure);
    });
    throw error;
  }
}

function configOf(config: Parameters<typeof storedConfigSxp>[0], { node, changeHomeServer }: MigrateOptions): Sxp {
  const more: Sxp[] = changeHomeServer ? [['change_home_server', 'True']] : [];
  if (node >= 0) more.push(['node', String(node)]);
  return [...storedConfigSxp(config), ...more];
}

/** Gives a machine another name while it is on its way, for this xend only: the next one finds the former. */
async function call(manager: DomainManager, vm: Vm, live: Live, name: string): Promise<void> {
  vm.config = { ...vm.config, name };
  await writeName(manager.ports.store, vm, live);
}

function asXendError(error: unknown): XendError {
  if (error instanceof XendError) return error;
  const text = error instanceof XenError ? xcErrorText(error) : osText(error);
  return new XendError(`can't send the domain: ${text}`, { cause: error });
}
