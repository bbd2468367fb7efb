/**
 * Machines that outlive their domains: one file each, domains/UUID/config.sxp under xend's state folder, as Xen 4.4's
 * `XendDomain.py` keeps them. A file is replaced whole, so that a crash leaves the old one or the new one.
 */
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseSxp, prettySxp } from '@xenhost/sxp';
import { parseVmConfig } from '../config/parse.ts';
import { storedConfigSxp } from '../config/sxp.ts';
import type { VmConfig } from '../config/types.ts';
import { messageOf } from '../errors.ts';
import type { XendLog } from '../node/log.ts';

export interface ManagedStore {
  /** Every readable configuration; a damaged one is logged and left alone. */
  load(): Promise<VmConfig[]>;
  save(config: VmConfig): Promise<void>;
  remove(uuid: string): Promise<void>;
}

const CONFIG_FILE = 'config.sxp';

export function openManagedStore(directory: string, log: XendLog): ManagedStore {
  const root = join(directory, 'domains');
  return {
    async load() {
      const names = await readdir(root).catch(() => []);
      const configs: VmConfig[] = [];
      for (const name of names.sort()) {
        const path = join(root, name, CONFIG_FILE);
        try {
          configs.push(parseVmConfig(parseSxp(await readFile(path, 'utf8'))));
        } catch (error) {
          log.error('XendDomain', `Cannot read managed configuration ${path}: ${messageOf(error)}`);
        }
      }
      return configs;
    },
    async save(config) {
      const folder = join(root, config.uuid);
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const path = join(folder, CONFIG_FILE);
      const file = await open(`${path}.new`, 'w', 0o600);
      try {
        await file.writeFile(`${prettySxp(storedConfigSxp(config))}\n`);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${path}.new`, path);
    },
    async remove(uuid) {
      await rm(join(root, uuid), { recursive: true, force: true });
    },
  };
}
