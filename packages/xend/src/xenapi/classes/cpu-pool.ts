/** cpu_pool: pCPUs set apart for machines (Xen 4.4 `XendCPUPool.py`); the pools themselves are domain/pools.ts. */
import type { Sxp } from '@xenhost/sxp';
import { PoolError, type CpuPool } from '../../domain/pools.ts';
import { vmsOfPool } from '../../domain/pool-views.ts';
import { ApiError, handleInvalid } from '../errors.ts';
import { defineClass, writer } from '../table.ts';
import { convert } from '../values.ts';
import type { World } from '../world.ts';
import { cpuNumber, cpuRef } from './host.ts';

const { ro, rw, func, method } = writer<CpuPool>();

/** Changes a pool's record and stores it. */
async function change(world: World, pool: CpuPool, changes: Partial<CpuPool>): Promise<void> {
  Object.assign(pool, changes);
  await world.manager.pools.save();
}

const isActive = async (world: World, pool: CpuPool): Promise<boolean> =>
  (await world.manager.pools.poolIdOf(pool)) !== undefined;

async function refuseActive(world: World, pool: CpuPool): Promise<void> {
  if (await isActive(world, pool)) throw new PoolError('POOL_BAD_STATE', 'activated');
}

const NAME = /^[A-Za-z0-9_\-.:/+]+$/;

function checkName(world: World, pool: CpuPool, name: string): void {
  if (name === '') throw new PoolError('PARAMETER_ERROR', 'Missing Pool Name');
  if (!NAME.test(name)) throw new PoolError('PARAMETER_ERROR', 'Invalid Pool Name');
  const other = world.manager.pools.all().find((known) => known.name === name);
  if (other && other !== pool) throw new PoolError('PARAMETER_ERROR', `Pool name "${name}" already exists`);
}

const CPU = { name: 'cpu', kind: 'int' } as const;

const byCpu = (name: string, doc: string, work: (world: World, pool: CpuPool, cpu: number) => Promise<void>) =>
  method({
    name,
    doc,
    params: [{ name: 'host_cpu', kind: 'ref' }],
    async run(world, _, pool, ref) {
      const number = await cpuNumber(world, ref);
      if (number === undefined) throw handleInvalid('host_cpu', ref);
      await work(world, pool, number);
    },
  });

export const cpuPool = defineClass<CpuPool>({
  name: 'cpu_pool',
  doc: 'Physical CPUs that are set apart for machines.',
  all: (world) => world.manager.pools.all(),
  find: (world, ref) => world.manager.pools.byUuid(ref),
  refOf: ({ uuid }) => uuid,
  label: ({ name }) => name,
  fields: [
    rw(
      'name_label',
      'string',
      (_, { name }) => name,
      async (world, pool, name) => {
        checkName(world, pool, name);
        await change(world, pool, { name });
      },
    ),
    rw(
      'name_description',
      'string',
      (_, { description }) => description,
      (world, pool, description) => change(world, pool, { description }),
    ),
    ro('resident_on', 'ref', (world) => world.hostRef),
    rw(
      'auto_power_on',
      'bool',
      (_, { autoPowerOn }) => autoPowerOn,
      (world, pool, autoPowerOn) => change(world, pool, { autoPowerOn }),
    ),
    ro('activated', 'bool', isActive),
    ro('started_VMs', 'set', async (world, pool) => (await vmsOfPool(world.manager, pool)).map(({ uuid }) => uuid)),
    rw(
      'ncpu',
      'int',
      (_, { ncpu }) => ncpu,
      async (world, pool, ncpu) => {
        if (ncpu < 1) throw new PoolError('PARAMETER_ERROR', 'ncpu');
        await change(world, pool, { ncpu });
      },
    ),
    rw(
      'sched_policy',
      'string',
      (world, pool) => world.manager.pools.schedPolicyOf(pool),
      async (world, pool, schedPolicy) => {
        await refuseActive(world, pool);
        await change(world, pool, { schedPolicy });
      },
    ),
    rw(
      'proposed_CPUs',
      'set',
      (_, { proposedCpus }) => proposedCpus,
      async (world, pool, cpus) => {
        await refuseActive(world, pool);
        const proposedCpus = cpus.map((cpu) => convert('int', cpu, 'cpu_pool.proposed_CPUs'));
        await change(world, pool, { proposedCpus });
      },
    ),
    ro('host_CPUs', 'set', async (world, pool) => {
      const active = await world.manager.pools.activeOf(pool);
      return (active?.cpus ?? []).map((cpu) => cpuRef(world, cpu));
    }),
    rw(
      'other_config',
      'map',
      (_, { otherConfig }) => Object.fromEntries(otherConfig),
      (world, pool, map) => change(world, pool, { otherConfig: new Map(Object.entries(map)) }),
      { entries: true },
    ),
  ],
  operations: [
    func({
      name: 'create',
      doc: 'Makes a managed pool; it is not active.',
      returns: 'cpu_pool',
      params: [{ name: 'record', kind: 'struct' }],
      async run(world, _, record) {
        const pairs = Object.entries(record).map(([key, value]): Sxp => {
          if (key === 'other_config') return [key, ...Object.entries(convert('map', value, 'cpu_pool.other_config'))];
          if (key === 'proposed_CPUs') return [key, ...convert('set', value, 'cpu_pool.proposed_CPUs')];
          if (key === 'auto_power_on') return [key, Number(convert('bool', value, 'cpu_pool.auto_power_on'))];
          return [key, convert('string', value, `cpu_pool.${key}`)];
        });
        return (await world.manager.pools.add(['pool', ...pairs], true)).uuid;
      },
    }),
    method({
      name: 'destroy',
      doc: 'Forgets a pool that is not active.',
      run: (world, _, pool) => world.manager.pools.remove(pool),
    }),
    method({
      name: 'activate',
      doc: 'Gives the pool its CPUs.',
      run: (world, _, pool) => world.manager.pools.activate(pool),
    }),
    method({
      name: 'deactivate',
      doc: 'Takes the CPUs from a pool that no machine is in.',
      async run(world, _, pool) {
        await world.manager.pools.deactivate(pool, (await vmsOfPool(world.manager, pool)).length);
      },
    }),
    byCpu('add_host_CPU_live', 'Adds a CPU to an active pool.', (world, pool, cpu) =>
      world.manager.pools.addCpu(pool, cpu),
    ),
    byCpu('remove_host_CPU_live', 'Takes a CPU from an active pool.', (world, pool, cpu) =>
      world.manager.pools.removeCpu(pool, cpu),
    ),
    method({
      name: 'add_to_proposed_CPUs',
      doc: 'Adds a CPU to those that the pool shall have.',
      params: [CPU],
      async run(world, _, pool, cpu) {
        await refuseActive(world, pool);
        const proposedCpus = [...new Set([...pool.proposedCpus, cpu])].sort((a, b) => a - b);
        await change(world, pool, { proposedCpus });
      },
    }),
    method({
      name: 'remove_from_proposed_CPUs',
      doc: 'Takes a CPU from those that the pool shall have.',
      params: [CPU],
      async run(world, _, pool, cpu) {
        await refuseActive(world, pool);
        await change(world, pool, { proposedCpus: pool.proposedCpus.filter((known) => known !== cpu) });
      },
    }),
  ],
});

/** What callers are told of a pool's refusal: its own code and arguments. */
export const poolFailure = (error: PoolError): ApiError => {
  const [code = 'INTERNAL_ERROR', ...args] = error.description;
  return new ApiError(code, ...args);
};
