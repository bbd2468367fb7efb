/**
 * CPU pools: records of xend (managed ones are kept, others live while they are active) over the hypervisor's pools. Which
 * of them are active, and under which id, stands in xenstore's /local/pool/ID. Answers to Xen 4.4 `XendCPUPool.py`.
 */
import { randomUUID } from 'node:crypto';
import { atomNumber, atomText, childrenOf, childOf, isList, pythonRepr, tagOf, type Sxp } from '@xenhost/sxp';
import { XendError } from '../errors.ts';
import type { XendPorts } from '../ports.ts';
import type { ManagedStore } from '../store/managed.ts';
import { removeTree } from '../store/nodes.ts';
import { Mutex } from './mutex.ts';
import { asXendError } from './xc-error.ts';

export const POOL_ROOT = '/local/pool';
const POOL_0_NAME = 'Pool-0';
const POOL_NAME = /^[A-Za-z0-9_\-.:/+]+$/;
/** Schedulers of `xen/include/public/domctl.h` by their names. */
export const SCHEDULER_IDS: Readonly<Record<string, number>> = { sedf: 4, credit: 5, credit2: 6, arinc653: 7 };

/** What 4.4 answers: a list of a code and its arguments, in Python's notation. */
export class PoolError extends XendError {
  readonly description: readonly string[];
  constructor(...description: readonly string[]) {
    super(`[${description.map(pythonRepr).join(', ')}]`);
    this.name = 'PoolError';
    this.description = description;
  }
}

export interface CpuPool {
  readonly uuid: string;
  name: string;
  description: string;
  /** Whether it is in the store and outlives its activity. */
  readonly managed: boolean;
  autoPowerOn: boolean;
  ncpu: number;
  /** Empty: the hypervisor's default. */
  schedPolicy: string;
  proposedCpus: number[];
  otherConfig: Map<string, string>;
}

/** A pool that the hypervisor has. */
export interface ActivePool {
  readonly poolId: number;
  readonly cpus: readonly number[];
  readonly nrDomains: number;
}

export class CpuPools {
  readonly #ports: Pick<XendPorts, 'xc' | 'store' | 'log'>;
  readonly #managed: ManagedStore;
  readonly #pools = new Map<string, CpuPool>();
  readonly #lock = new Mutex();

  constructor(ports: Pick<XendPorts, 'xc' | 'store' | 'log'>, managed: ManagedStore) {
    this.#ports = ports;
    this.#managed = managed;
  }

  /** Reads the store, then takes up what the hypervisor has and xenstore does not know. */
  async start(): Promise<void> {
    for (const sxp of await this.#managed.loadPools()) {
      try {
        const pool = parsePool(withoutUuid(sxp), tagOf(sxp) ?? randomUUID(), true);
        this.#pools.set(pool.uuid, pool);
      } catch (error) {
        this.#ports.log.error('XendCPUPool', 'Cannot read a managed CPU pool', error);
      }
    }
    const infos = await this.#ports.xc.cpupoolGetinfolist();
    await this.#forgetGone(new Set(infos.map((info) => info.poolId)));
    for (const info of infos) await this.#takeUp(info.poolId, info.cpus);
  }

  async #forgetGone(present: ReadonlySet<number>): Promise<void> {
    const { store } = this.#ports;
    for (const name of await store.tryDirectory(POOL_ROOT)) {
      if (/^\d+$/.test(name) && !present.has(Number(name))) await removeTree(store, `${POOL_ROOT}/${name}`);
    }
  }

  async #takeUp(poolId: number, cpus: readonly number[]): Promise<void> {
    const { store } = this.#ports;
    const path = `${POOL_ROOT}/${poolId}`;
    const known = await store.tryRead(`${path}/uuid`);
    const uuid = known ?? randomUUID();
    const name = (known === undefined ? undefined : await store.tryRead(`${path}/name`)) ?? `Pool-${poolId}`;
    const pool = this.#pools.get(uuid) ?? {
      uuid, name, description: name, managed: false, autoPowerOn: false, ncpu: cpus.length, schedPolicy: '',
      proposedCpus: [...cpus], otherConfig: new Map<string, string>(),
    }; // prettier-ignore
    if (known !== undefined) {
      pool.name = name;
      pool.description = (await store.tryRead(`${path}/description`)) ?? name;
      for (const key of await store.tryDirectory(`${path}/other_config`)) {
        pool.otherConfig.set(key, (await store.tryRead(`${path}/other_config/${key}`)) ?? '');
      }
    }
    this.#pools.set(uuid, pool);
    if (known === undefined) await this.#writeNodes(pool, poolId);
  }

  async #writeNodes(pool: CpuPool, poolId: number): Promise<void> {
    const path = `${POOL_ROOT}/${poolId}`;
    await this.#ports.store.transaction(async (t) => {
      await t.mkdir(`${path}/other_config`);
      const nodes = { uuid: pool.uuid, name: pool.name, description: pool.description };
      for (const [key, value] of Object.entries(nodes)) await t.write(`${path}/${key}`, value);
      for (const [key, value] of pool.otherConfig) await t.write(`${path}/other_config/${key}`, value);
    });
  }

  /** After domains are known: managed pools that shall be active. */
  async autostart(): Promise<void> {
    for (const pool of this.all()) {
      if (!pool.managed || !pool.autoPowerOn || (await this.activeOf(pool))) continue;
      await this.activate(pool).catch((error: unknown) => {
        this.#ports.log.error('XendCPUPool', `Cannot start pool ${pool.name}`, error);
      });
    }
  }

  all(): CpuPool[] {
    return [...this.#pools.values()];
  }

  byUuid(uuid: string): CpuPool | undefined {
    return this.#pools.get(uuid);
  }

  /** By the id of an active pool, or by name. */
  async lookup(ref: string): Promise<CpuPool | undefined> {
    if (/^\d{1,9}$/.test(ref)) {
      const uuid = await this.#ports.store.tryRead(`${POOL_ROOT}/${Number(ref)}/uuid`);
      const pool = uuid === undefined ? undefined : this.#pools.get(uuid);
      if (pool) return pool;
    }
    return this.all().find((pool) => pool.name === ref);
  }

  /** As `lookup`. Throws XendError. */
  async get(ref: string): Promise<CpuPool> {
    const pool = await this.lookup(ref);
    if (!pool) throw new XendError(`unknown pool ${ref}`);
    return pool;
  }

  /** The pool's id in the hypervisor while it is active. */
  async poolIdOf(pool: CpuPool): Promise<number | undefined> {
    for (const id of await this.#ports.store.tryDirectory(POOL_ROOT)) {
      if ((await this.#ports.store.tryRead(`${POOL_ROOT}/${id}/uuid`)) === pool.uuid) return Number(id);
    }
    return undefined;
  }

  /** The hypervisor's pool behind it, or undefined while it is not active. */
  async activeOf(pool: CpuPool): Promise<ActivePool | undefined> {
    const poolId = await this.poolIdOf(pool);
    if (poolId === undefined) return undefined;
    return (await this.#ports.xc.cpupoolGetinfolist()).find((info) => info.poolId === poolId);
  }

  /** The id of the pool that a configuration names. Throws XendError. */
  async idForConfig(name: string): Promise<number> {
    if (name === '' || name === POOL_0_NAME) return 0;
    const poolId = await this.poolIdOf(await this.get(name));
    if (poolId === undefined) throw new XendError(`unknown pool ${name}`);
    return poolId;
  }

  /** A pool's name by its id in the hypervisor. */
  async nameOf(poolId: number): Promise<string> {
    return (await this.#ports.store.tryRead(`${POOL_ROOT}/${poolId}/name`)) ?? `Pool-${poolId}`;
  }

  /** Adds a record; a managed one is stored. Throws PoolError. */
  async add(config: Sxp, managed: boolean): Promise<CpuPool> {
    const pool = parsePool(config, randomUUID(), managed);
    if (this.all().some((other) => other.name === pool.name)) {
      throw new PoolError('PARAMETER_ERROR', `Pool name "${pool.name}" already exists`);
    }
    this.#pools.set(pool.uuid, pool);
    await this.save();
    return pool;
  }

  /** Makes a pool and activates it; it is gone again when that fails. */
  async create(config: Sxp): Promise<CpuPool> {
    const pool = await this.add(config, false);
    try {
      await this.activate(pool);
      return pool;
    } catch (error) {
      this.#pools.delete(pool.uuid);
      throw error;
    }
  }

  /** Gives the pool its CPUs in the hypervisor. Throws PoolError, or XendError of the hypervisor's refusal. */
  activate(pool: CpuPool): Promise<void> {
    return this.#lock.run(async () => {
      const { xc, log } = this.#ports;
      if ((await this.poolIdOf(pool)) !== undefined) throw new PoolError('POOL_BAD_STATE', 'activated');
      const schedId = SCHEDULER_IDS[pool.schedPolicy] ?? (pool.schedPolicy === '' ? await xc.schedId() : undefined);
      if (schedId === undefined) throw new PoolError('UNKOWN_SCHED_POLICY');
      const free = await asXendError(xc.cpupoolFreeinfo());
      if (free.length < pool.ncpu) throw new PoolError('INSUFFICIENT_CPUS', String(pool.ncpu), String(free.length));
      const wanted = pool.proposedCpus.filter((cpu) => free.includes(cpu));
      const cpus = [...wanted, ...free.filter((cpu) => !wanted.includes(cpu))].slice(0, pool.ncpu);
      const poolId = await asXendError(xc.cpupoolCreate(schedId));
      try {
        for (const cpu of cpus) await asXendError(xc.cpupoolAddcpu(poolId, cpu));
        await this.#writeNodes(pool, poolId);
      } catch (error) {
        await this.#dissolve(poolId).catch((failure: unknown) => {
          log.error('XendCPUPool', `Cannot take back pool ${poolId}`, failure);
        });
        throw error;
      }
    });
  }

  /** Takes the pool out of the hypervisor; a record that is not managed goes with it. `inUse`: machines that are in it. */
  deactivate(pool: CpuPool, inUse: number): Promise<void> {
    return this.#lock.run(async () => {
      const poolId = await this.poolIdOf(pool);
      if (poolId === undefined) throw new PoolError('POOL_BAD_STATE', 'deactivated');
      if (inUse > 0) throw new PoolError('POOL_BAD_STATE', 'in use');
      await this.#dissolve(poolId);
      await removeTree(this.#ports.store, `${POOL_ROOT}/${poolId}`);
      if (!pool.managed) this.#pools.delete(pool.uuid);
    });
  }

  async #dissolve(poolId: number): Promise<void> {
    const { xc } = this.#ports;
    const info = (await xc.cpupoolGetinfolist()).find((known) => known.poolId === poolId);
    for (const cpu of info?.cpus ?? []) await asXendError(xc.cpupoolRemovecpu(poolId, cpu));
    await asXendError(xc.cpupoolDestroy(poolId));
  }

  /** Removes the record of a pool that is not active. */
  async remove(pool: CpuPool): Promise<void> {
    if ((await this.poolIdOf(pool)) !== undefined) throw new PoolError('POOL_BAD_STATE', 'activated');
    this.#pools.delete(pool.uuid);
    await this.save();
  }

  addCpu(pool: CpuPool, cpu: number): Promise<void> {
    return this.#lock.run(async () => {
      const poolId = await this.#cpuPlace(pool, cpu);
      const owner = (await this.#ports.xc.cpupoolGetinfolist()).find((info) => info.cpus.includes(cpu));
      if (owner) {
        const uuid = (await this.#ports.store.tryRead(`${POOL_ROOT}/${owner.poolId}/uuid`)) ?? '';
        throw new PoolError('INVAILD_CPU', `cpu already assigned to pool "${uuid}"`);
      }
      await asXendError(this.#ports.xc.cpupoolAddcpu(poolId, cpu));
      if (!pool.proposedCpus.includes(cpu)) pool.proposedCpus.push(cpu);
      await this.#updateNcpu(pool, poolId);
    });
  }

  removeCpu(pool: CpuPool, cpu: number): Promise<void> {
    return this.#lock.run(async () => {
      const poolId = await this.#cpuPlace(pool, cpu);
      const info = (await this.#ports.xc.cpupoolGetinfolist()).find((known) => known.poolId === poolId);
      if (!info?.cpus.includes(cpu)) throw new PoolError('INVAILD_CPU', 'CPU not assigned to pool');
      if (info.cpus.length < 2 && info.nrDomains > 0) {
        throw new PoolError('LAST_CPU_NOT_REMOVEABLE', 'could not remove last cpu');
      }
      await asXendError(this.#ports.xc.cpupoolRemovecpu(poolId, cpu));
      pool.proposedCpus = pool.proposedCpus.filter((known) => known !== cpu);
      await this.#updateNcpu(pool, poolId);
    });
  }

  async #cpuPlace(pool: CpuPool, cpu: number): Promise<number> {
    if (cpu < 0 || cpu >= (await this.#ports.xc.physinfo()).nrCpus) throw new PoolError('INVAILD_CPU', 'CPU unknown');
    const poolId = await this.poolIdOf(pool);
    if (poolId === undefined) throw new PoolError('POOL_BAD_STATE', 'deactivated');
    return poolId;
  }

  async #updateNcpu(pool: CpuPool, poolId: number): Promise<void> {
    const info = (await this.#ports.xc.cpupoolGetinfolist()).find((known) => known.poolId === poolId);
    pool.ncpu = info?.cpus.length ?? pool.ncpu;
    await this.save();
  }

  /** Writes the managed pools, after a record was changed. */
  async save(): Promise<void> {
    await this.#managed.savePools(
      this.all()
        .filter((pool) => pool.managed)
        .map(poolSxp),
    );
  }

  /** The scheduler's name that the pool has, or would get. */
  async schedPolicyOf(pool: CpuPool): Promise<string> {
    if (pool.schedPolicy !== '') return pool.schedPolicy;
    const id = await this.#ports.xc.schedId();
    return Object.entries(SCHEDULER_IDS).find(([, known]) => known === id)?.[0] ?? 'unknown';
  }
}

const withoutUuid = (sxp: Sxp): Sxp => (isList(sxp) ? ['pool', ...sxp.slice(1)] : sxp);

function poolSxp(pool: CpuPool): Sxp {
  return [
    pool.uuid,
    ['name_label', pool.name],
    ['name_description', pool.description],
    ['auto_power_on', Number(pool.autoPowerOn)],
    ['ncpu', pool.ncpu],
    ['sched_policy', pool.schedPolicy],
    ['proposed_CPUs', ...pool.proposedCpus],
    ['other_config', ...[...pool.otherConfig].map(([key, value]): Sxp => [key, value])],
  ];
}

/** `['pool', ['name_label', N], ['ncpu', K], ...]`. Throws PoolError. */
export function parsePool(config: Sxp, uuid: string, managed: boolean): CpuPool {
  if (!isList(config)) throw new PoolError('PARAMETER_ERROR', 'not a pool configuration');
  const text = (key: string): string | undefined => atomText(childOf(config, key)?.[1]);
  const name = text('name_label') ?? 'Pool-Unnamed';
  if (name === '') throw new PoolError('PARAMETER_ERROR', 'Missing Pool Name');
  if (!POOL_NAME.test(name)) throw new PoolError('PARAMETER_ERROR', 'Invalid Pool Name');
  const number = (what: string, value: Sxp | undefined): number => {
    const parsed = atomNumber(value);
    if (parsed === undefined || !Number.isInteger(parsed) || parsed < 0) throw new PoolError('PARAMETER_ERROR', what);
    return parsed;
  };
  const proposed = (childOf(config, 'proposed_CPUs')?.slice(1) ?? []).flatMap((item) => (isList(item) ? item : [item]));
  const otherConfig = new Map<string, string>();
  for (const pair of childrenOf(config, 'other_config').flatMap((list) => list.slice(1))) {
    const key = isList(pair) ? tagOf(pair) : undefined;
    if (key !== undefined && /^[\w.:+-]{1,128}$/.test(key)) otherConfig.set(key, atomText((pair as Sxp[])[1]) ?? '');
  }
  return {
    uuid,
    name,
    description: text('name_description') ?? name,
    managed,
    autoPowerOn: !['', '0', 'False', 'false'].includes(text('auto_power_on') ?? ''),
    ncpu: number('ncpu', childOf(config, 'ncpu')?.[1] ?? 1),
    schedPolicy: text('sched_policy') ?? '',
    proposedCpus: proposed.map((cpu) => number('proposed_CPUs', cpu)),
    otherConfig,
  };
}
