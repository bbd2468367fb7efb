/** Debian's passt for networks of hosts under test: the machine's own, or one fetched and unpacked in .cache. */
import { existsSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { AptCache } from '@xenhost/xenhost';

/** network.sxp for guests that talk to servers of this process: xenbr0, with the machine's loopback at the gateway's address. */
export const LOOPBACK_NETWORK = '(bridge xenbr0 (uplink passt (host-loopback yes)))\n';

const CACHE = '.cache/passt';

/**
 * Makes `passt` known to what this process starts. Resolves to why that cannot be; undefined when it is there. `say` is told
 * what is fetched.
 */
export async function providePasst(say: (line: string) => void = () => undefined): Promise<string | undefined> {
  const path = process.env['PATH'] ?? '';
  if (path.split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, 'passt')))) return undefined;
  const root = resolve(CACHE, 'root');
  const folder = join(root, 'usr', 'bin');
  if (!existsSync(join(folder, 'passt'))) {
    try {
      const cache = new AptCache(resolve(CACHE));
      say('fetching passt');
      await cache.unpack(await cache.download('passt'), root);
    } catch (error) {
      return `no passt on this machine, and none to be fetched: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  process.env['PATH'] = `${folder}${delimiter}${path}`;
  return undefined;
}
