/** CPU pools and machines together: who is in a pool, what a pool's record shows, moving a machine. */
import type { Sxp, SxpList } from '@xenhost/sxp';
import { XenError } from '@xenhost/base';
import { XendError } from '../errors.ts';
import type { DomainManager } from './manager.ts';
import type { CpuPool } from './pools.ts';
import type { Vm } from './vm.ts';

/** Machines whose domains are in the pool, sorted by name; none while it is not active. */
export async function vmsOfPool(manager: DomainManager, pool: CpuPool): Promise<Vm[]> {
  const poolId = await manager.pools.poolIdOf(pool);
  return poolId === undefined ? [] : manager.list('all').filter((vm) => vm.live?.info.cpupool === poolId);
}

/** A stable reference for a pCPU of this host. */
export const hostCpuUuid = (cpu: number): string => `00000000-0000-4000-8000-${cpu.toString(16).padStart(12, '0')}`;

/** `[uuid, [key, value]...]`, as xm's cpupool-list reads it. */
export async function poolRecord(manager: DomainManager, pool: CpuPool): Promise<SxpList> {
  const { pools } = manager;
  const active = await pools.activeOf(pool);
  const vms = await vmsOfPool(manager, pool);
  const cpus = active?.cpus ?? [];
  return [
    pool.uuid,
    ['uuid', pool.uuid],
    ['name_label', pool.name],
    ['name_description', pool.description],
    ['resident_on', HOST_UUID],
    ['auto_power_on', Number(pool.autoPowerOn)],
    ['activated', active !== undefined],
    ['started_VMs', ...vms.map((vm) => vm.uuid)],
    ['ncpu', pool.ncpu],
    ['sched_policy', await pools.schedPolicyOf(pool)],
    ['proposed_CPUs', ...pool.proposedCpus.map(String)],
    ['host_CPUs', ...cpus.map(hostCpuUuid)],
    ['other_config', ...[...pool.otherConfig].map(([key, value]): Sxp => [key, value])],
    ['host_CPU_numbers', ...cpus],
    ['started_VM_names', ...vms.map((vm) => vm.name)],
  ];
}

/** The host in records of pools: there is one. */
const HOST_UUID = '00000000-0000-4000-8000-ffffffffffff';

/** Throws XendError with the texts of 4.4's pool_migrate. */
export async function migrateToPool(manager: DomainManager, dom: string, name: string): Promise<void> {
  const pool = await manager.pools.get(name);
  const vm = manager.find(dom);
  if (!vm) throw new XendError(`unknown domain ${dom}`);
  await vm.lock.run(async () => {
    const live = vm.live;
    if (live?.domid === 0) throw new XendError('could not move Domain-0');
    if (live) {
      const poolId = await manager.pools.poolIdOf(pool);
      try {
        if (poolId === undefined) throw new XendError('could not move domain');
        await manager.ports.xc.cpupoolMovedomain(poolId, live.domid);
      } catch (error) {
        if (error instanceof XenError) throw new XendError('could not move domain', { cause: error });
        throw error;
      }
      live.info = { ...live.info, cpupool: poolId };
      await manager.ports.store.write(`${vm.vmPath}/pool_name`, pool.name);
    }
    vm.config = { ...vm.config, poolName: pool.name };
    await manager.save(vm);
  });
}
