/**
 * What outlives domains and xend itself, under xend's state folder: managed machines, one file each,
 * domains/UUID/config.sxp with checkpoint.chk beside it after a suspend, and state/cpu_pool.sxp (Xen 4.4 `XendDomain.py`,
 * `XendStateStore.py`). Files are replaced whole; what a crash left half done is taken away at load.
 */
import { readdir, readFile, rm, rmdir } from 'node:fs/promises';
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
  /** The state folder. */
  readonly directory: string;
  /** Every readable configuration; a damaged one is logged and left alone. */
  load(): Promise<VmConfig[]>;
  save(config: VmConfig): Promise<void>;
  remove(uuid: string): Promise<void>;
  /** Where a suspended machine's memory is kept. */
  checkpointPath(uuid: string): string;
  /** The configuration of a domain that runs, for the next xend: it is lost with the host, as the domain is. */
  saveRunning(config: VmConfig): Promise<void>;
  loadRunning(uuid: string): Promise<VmConfig | undefined>;
  removeRunning(uuid: string): Promise<void>;
  /** UUIDs of configurations of running domains, of which some may be gone. */
  listRunning(): Promise<string[]>;
  /** Managed CPU pools as SXP, `[uuid, [key, value]...]` each. */
  loadPools(): Promise<Sxp[]>;
  savePools(pools: readonly Sxp[]): Promise<void>;
}

const CONFIG_FILE = 'config.sxp';
const CHECKPOINT_FILE = 'checkpoint.chk';

const removeEmptyFolder = (path: string): Promise<boolean> =>
  rmdir(path).then(
    () => true,
    () => false,
  );

/** Folders that keys of the configuration may put elsewhere (xend-domains-path, xend-state-path, xend-storage-path). */
export interface StateFolders {
  readonly domains: string;
  readonly state: string;
  readonly storage: string;
}

/** Where they are below xend's state folder without those keys. */
export const stateFolders = (directory: string): StateFolders => ({
  domains: join(directory, 'domains'),
  state: join(directory, 'state'),
  storage: join(directory, 'storage'),
});

export function openManagedStore(
  directory: string,
  log: XendLog,
  folders: StateFolders = stateFolders(directory),
): ManagedStore {
  const root = folders.domains;
  const runningRoot = join(directory, 'running');
  const runningPath = (uuid: string): string => join(runningRoot, `${uuid}.sxp`);
  const poolsPath = join(folders.state, 'cpu_pool.sxp');
  /** Writes and removals one after the other: two for one machine must not meet. */
  const lock = new Mutex();
  return {
    directory,
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
          // A folder that was made and got no file yet; one with anything in it stays.
          if ((error as NodeJS.ErrnoException).code === 'ENOENT' && (await removeEmptyFolder(join(root, name))))
            continue;
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
    saveRunning: (config) =>
      lock.run(() => writeFileAtomically(runningPath(config.uuid), `${prettySxp(storedConfigSxp(config))}\n`, false)),
    async loadRunning(uuid) {
      try {
        const config = parseVmConfig(parseSxp(await readFile(runningPath(uuid), 'utf8')));
        return config.uuid === uuid ? config : undefined;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
          log.error('XendDomain', `Cannot read ${runningPath(uuid)}: ${messageOf(error)}`);
        }
        return undefined;
      }
    },
    removeRunning: (uuid) => lock.run(() => rm(runningPath(uuid), { force: true })),
    async listRunning() {
      const names = await readdir(runningRoot).catch(() => []);
      await Promise.all(
        names
          .filter((name) => name.endsWith(TEMPORARY_SUFFIX))
          .map((name) => rm(join(runningRoot, name), { force: true })),
      );
      return names.filter((name) => name.endsWith('.sxp')).map((name) => name.slice(0, -'.sxp'.length));
    },
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
