/**
 * What outlives domains and xend itself, under xend's state folder: managed machines, one file each,
 * domains/UUID/config.sxp with checkpoint.chk beside it after a suspend, and state/cpu_pool.sxp (Xen 4.4 `XendDomain.py`,
 * `XendStateStore.py`). Files are replaced whole; what a crash left half done is taken away at load.
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isList, parseSxp, prettySxp, type Sxp } from '@xenhost/sxp';
import { parseVmConfig } from '../config/parse.ts';
import { storedConfigSxp } from '../config/sxp.ts';
import type { VmConfig } from '../config/types.ts';
import { Mutex } from '../domain/mutex.ts';
import { messageOf } from '../errors.ts';
import type { XendLog } from '../node/log.ts';
import { isDeletedFolder, removeFolderAtomically, TEMPORARY_SUFFIX, writeFileAtomically } from './atomic-file.ts';

export interface ManagedStore {
  /** Every readable configuration; a damaged one is logged and left alone. */
  load(): Promise<VmConfig[]>;
  save(config: VmConfig): Promise<void>;
  remove(uuid: string): Promise<void>;
  /** Where a suspended machine's memory is kept. */
  checkpointPath(uuid: string): string;
  /** Managed CPU pools as SXP, `[uuid, [key, value]...]` each. */
  loadPools(): Promise<Sxp[]>;
  savePools(pools: readonly Sxp[]): Promise<void>;
}

const CONFIG_FILE = 'config.sxp';
const CHECKPOINT_FILE = 'checkpoint.chk';

export function openManagedStore(directory: string, log: XendLog): ManagedStore {
  const root = join(directory, 'domains');
  const poolsPath = join(directory, 'state', 'cpu_pool.sxp');
  /** Writes and removals one after the other: two for one machine must not meet. */
  const lock = new Mutex();
  return {
    async load() {
      const names = await readdir(root).catch(() => []);
      const configs: VmConfig[] = [];
      for (const name of names.sort()) {
        const path = join(root, name, CONFIG_FILE);
        if (isDeletedFolder(name)) {
          await rm(join(root, name), { recursive: true, force: true });
          continue;
        }
        await rm(`${path}${TEMPORARY_SUFFIX}`, { force: true });
        try {
          const config = parseVmConfig(parseSxp(await readFile(path, 'utf8')));
          if (config.uuid !== name) throw new Error(`it is of machine ${config.uuid}`);
          configs.push(config);
        } catch (error) {
          log.error('XendDomain', `Cannot read managed configuration ${path}: ${messageOf(error)}`);
        }
      }
      return configs;
    },
    save: (config) =>
      lock.run(() =>
        writeFileAtomically(join(root, config.uuid, CONFIG_FILE), `${prettySxp(storedConfigSxp(config))}\n`),
      ),
    remove: (uuid) => lock.run(() => removeFolderAtomically(join(root, uuid))),
    checkpointPath: (uuid) => join(root, uuid, CHECKPOINT_FILE),
    async loadPools() {
      try {
        const pools = parseSxp(await readFile(poolsPath, 'utf8'));
        return isList(pools) ? [...pools.slice(1)] : [];
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
          log.error('XendCPUPool', `Cannot read managed CPU pools ${poolsPath}: ${messageOf(error)}`);
        }
        return [];
      }
    },
    savePools: (pools) => lock.run(() => writeFileAtomically(poolsPath, `${prettySxp(['cpu_pools', ...pools])}\n`)),
  };
}
