/** The two servers that a command may talk to, made when it runs. */
import { XendClient } from '../client.ts';
import type { World } from '../world.ts';
import type { XenApi } from '../xen-api/session.ts';
import { serverOf } from './address.ts';

export interface Connection {
  readonly server: XendClient;
  readonly api: XenApi | undefined;
  close(): Promise<void>;
}

/** Throws CommandFailed for an address that is none. Nothing is sent yet. */
export async function connect(world: World): Promise<Connection> {
  const { type, address, username, password } = await serverOf(world);
  const server = new XendClient(address, world);
  const api =
    type === 'Xen-API' ? new (await import('../xen-api/session.ts')).XenApi({ username, password }, server) : undefined;
  return {
    server,
    api,
    async close() {
      await api?.logout();
      server.close();
    },
  };
}
