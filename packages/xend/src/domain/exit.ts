/**
 * What happens when a domain shut itself down or crashed: on_poweroff, on_reboot, on_crash (Xen 4.4 `XendDomainInfo.py`
 * refreshShutdown, _maybeRestart, _restart, _preserve).
 */
import { ShutdownReason } from '@xenhost/libxenctrl';
import type { ExitAction, ExitEvent } from '../config/types.ts';
import { MINIMUM_RESTART_TIME_S } from '../limits.ts';
import { LAST_SHUTDOWN_REASON, RESTART_IN_PROGRESS, RESTART_COUNT, SHUTDOWN_COMPLETED } from '../store/exit-notes.ts';
import { removeTree } from '../store/nodes.ts';
import { dumpCore } from './dump-core.ts';
import type { DomainManager } from './manager.ts';
import { domainPath, type Live, type Vm } from './vm.ts';

/** What exits may do with machines; the manager does it. */
export type ExitModules = Pick<
  DomainManager,
  'ports' | 'settings' | 'dumpDirectory' | 'destroyLocked' | 'restartLocked' | 'renameDead' | 'bringBack'
>;

const REASON_NAMES: Readonly<Record<number, string>> = {
  [ShutdownReason.poweroff]: 'poweroff',
  [ShutdownReason.reboot]: 'reboot',
  [ShutdownReason.suspend]: 'suspend',
  [ShutdownReason.crash]: 'crash',
};

/** Acts on the end of a domain. The caller holds the machine's lock and has marked the end as handled. */
export async function handleExit(vm: Vm, live: Live, modules: ExitModules): Promise<void> {
  const { store, log } = modules.ports;
  if (vm.live !== live) return;
  if (live.info.dying) {
    await modules.destroyLocked(vm);
    return;
  }
  // It had suspended itself to be saved, and goes on.
  if (!live.info.shutdown && !live.info.crashed) return;
  if ((await store.tryRead(`${domainPath(live.domid)}/${SHUTDOWN_COMPLETED}`)) !== undefined) return;
  const reason = live.info.crashed ? 'crash' : (REASON_NAMES[live.info.shutdownReason] ?? 'halt');
  if (live.info.crashed) log.warn('XendDomainInfo', `Domain has crashed: name=${vm.name} id=${live.domid}.`);
  else log.info('XendDomainInfo', `Domain has shutdown: name=${vm.name} id=${live.domid} reason=${reason}.`);
  await store.write(`${vm.vmPath}/${LAST_SHUTDOWN_REASON}`, reason);
  switch (reason) {
    case 'poweroff':
    case 'reboot':
    case 'crash':
      await act(vm, live, reason, modules);
      return;
    case 'suspend':
      return;
    default:
      await modules.destroyLocked(vm);
  }
}

async function act(vm: Vm, live: Live, event: ExitEvent, modules: ExitModules): Promise<void> {
  const action: ExitAction = vm.config.onExit[event];
  if (event === 'crash' && (action.startsWith('coredump-') || modules.settings.enableDump)) {
    // A core that cannot be written was logged, and keeps nothing from happening.
    await dumpCore(vm, live, modules.ports, modules.dumpDirectory).catch(() => undefined);
  }
  switch (action) {
    case 'preserve':
      await preserve(vm, live, modules);
      return;
    case 'restart':
    case 'coredump-restart':
    case 'rename-restart':
      await restart(vm, live, action === 'rename-restart', modules);
      return;
    case 'destroy':
    case 'coredump-destroy':
      await modules.destroyLocked(vm);
  }
}

async function preserve(vm: Vm, live: Live, { ports }: ExitModules): Promise<void> {
  ports.log.info('XendDomainInfo', `Preserving dead domain ${vm.name} (${live.domid}).`);
  await ports.store.write(`${domainPath(live.domid)}/${SHUTDOWN_COMPLETED}`, 'True');
}

async function restart(vm: Vm, live: Live, rename: boolean, modules: ExitModules): Promise<void> {
  const { store, log, clock } = modules.ports;
  if ((await store.tryRead(`${vm.vmPath}/${RESTART_IN_PROGRESS}`)) !== undefined) {
    log.error(
      'XendDomainInfo',
      `Xend failed during restart of domain ${live.domid}.  Refusing to restart to avoid loops.`,
    );
    await modules.destroyLocked(vm);
    return;
  }
  const livedS = Number(clock.wallNs() / 1_000_000n) / 1000 - live.startTimeS;
  if (livedS < MINIMUM_RESTART_TIME_S) {
    log.error(
      'XendDomainInfo',
      `VM ${vm.name} restarting too fast (Elapsed time: ${livedS.toFixed(6)} seconds). Refusing to restart to avoid loops.`,
    );
    await modules.destroyLocked(vm);
    return;
  }
  await store.write(`${vm.vmPath}/${RESTART_IN_PROGRESS}`, 'True');
  try {
    if (!rename) {
      await modules.restartLocked(vm);
      return;
    }
    const count = Number((await store.tryRead(`${vm.vmPath}/${RESTART_COUNT}`)) ?? 0);
    const successor = await modules.renameDead(vm, live);
    await preserve(vm, live, modules);
    await modules.bringBack(
      successor,
      count,
      new Map([['last_shutdown_reason', live.info.crashed ? 'crash' : 'reboot']]),
    );
  } catch (error) {
    log.error('XendDomainInfo', `Failed to restart domain ${live.domid}.`, error);
    await removeTree(store, `${vm.vmPath}/${RESTART_IN_PROGRESS}`).catch(() => undefined);
  }
}
