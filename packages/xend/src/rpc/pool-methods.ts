/** xend.cpu_pool.*: CPU pools (facts, section 3; Xen 4.4 `XendCPUPool.py`, the pool_* functions). */
import type { Sxp } from '@xenhost/sxp';
import { migrateToPool, poolRecord, vmsOfPool } from '../domain/pool-views.ts';
import { method, XEND_ERROR, type Method } from './method.ts';

const NAME = { name: 'name', type: 'string' } as const;
const CPU = { name: 'cpu', type: 'int' } as const;
const CONFIG = { name: 'config', type: 'sxp' } as const;
const FAULTS = [XEND_ERROR];

export const poolMethods: readonly Method[] = [
  method({
    name: 'xend.cpu_pool.new',
    doc: 'Adds a CPU pool to those that xend manages; it is not active. Answers its UUID.',
    params: [CONFIG],
    returns: 'string',
    faults: FAULTS,
    run: async ({ manager }, config) => (await manager.pools.add(config, true)).uuid,
  }),
  method({
    name: 'xend.cpu_pool.create',
    doc: 'Makes a CPU pool and activates it; it is gone when it is destroyed.',
    params: [CONFIG],
    returns: 'nil',
    faults: FAULTS,
    async run({ manager }, config) {
      await manager.pools.create(config);
      return null;
    },
  }),
  method({
    name: 'xend.cpu_pool.start',
    doc: 'Activates a managed CPU pool.',
    params: [NAME],
    returns: 'nil',
    faults: FAULTS,
    async run({ manager }, name) {
      await manager.pools.activate(await manager.pools.get(name));
      return null;
    },
  }),
  method({
    name: 'xend.cpu_pool.list',
    doc: 'The records of the named CPU pools, or of all when no name is given.',
    params: [{ name: 'names', type: 'names' }],
    returns: 'array',
    faults: FAULTS,
    async run({ manager }, names) {
      await manager.refresh();
      const pools = manager.pools.all().filter((pool) => names.length === 0 || names.includes(pool.name));
      return Promise.all(pools.map((pool): Promise<Sxp> => poolRecord(manager, pool)));
    },
  }),
  method({
    name: 'xend.cpu_pool.destroy',
    doc: 'Deactivates a CPU pool without domains; one that xend does not manage is gone then.',
    params: [NAME],
    returns: 'nil',
    faults: FAULTS,
    async run({ manager }, name) {
      const pool = await manager.pools.get(name);
      await manager.refresh();
      await manager.pools.deactivate(pool, (await vmsOfPool(manager, pool)).length);
      return null;
    },
  }),
  method({
    name: 'xend.cpu_pool.delete',
    doc: 'Removes a CPU pool that is not active from those that xend manages.',
    params: [NAME],
    returns: 'nil',
    faults: FAULTS,
    async run({ manager }, name) {
      await manager.pools.remove(await manager.pools.get(name));
      return null;
    },
  }),
  method({
    name: 'xend.cpu_pool.cpu_add',
    doc: 'Gives an active CPU pool a CPU that no pool has.',
    params: [NAME, CPU],
    returns: 'nil',
    faults: FAULTS,
    async run({ manager }, name, cpu) {
      await manager.pools.addCpu(await manager.pools.get(name), cpu);
      return null;
    },
  }),
  method({
    name: 'xend.cpu_pool.cpu_remove',
    doc: 'Takes a CPU from an active CPU pool.',
    params: [NAME, CPU],
    returns: 'nil',
    faults: FAULTS,
    async run({ manager }, name, cpu) {
      await manager.pools.removeCpu(await manager.pools.get(name), cpu);
      return null;
    },
  }),
  method({
    name: 'xend.cpu_pool.migrate',
    doc: 'Moves a domain to a CPU pool.',
    params: [
      { name: 'dom', type: 'dom' },
      { name: 'pool', type: 'string' },
    ],
    returns: 'nil',
    faults: FAULTS,
    async run({ manager }, dom, name) {
      await migrateToPool(manager, dom, name);
      return null;
    },
  }),
];
