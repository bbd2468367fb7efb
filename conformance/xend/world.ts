/** The live host that all parts of this run share, and what they do with it. */
import { createServer, type AddressInfo } from 'node:net';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { consoleShell } from '@xenhost/guest-kernels';
import { RpcConnection, TestHost, until } from '@xenhost/testkit';
import { program, readState } from '@xenhost/xenhost';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';

const MEMORY_MIB = 768;

/** Ports on the loopback address. */
export interface Ports {
  readonly xmlrpc: number;
  readonly xenApi: number;
  readonly http: number;
}

export class World {
  readonly host: TestHost;
  readonly ports: Ports;
  /** A small guest's kernel: it answers on its console and obeys control/shutdown. */
  readonly kernel: string;

  private constructor(host: TestHost, ports: Ports) {
    this.host = host;
    this.ports = ports;
    this.kernel = join(host.directory, 'console-shell.elf');
  }

  static async start(): Promise<World> {
    const [xmlrpc = 0, xenApi = 0, http = 0] = await freePorts(3);
    const xendConfig = `
(xend-tcp-xmlrpc-server yes)
(xend-tcp-xmlrpc-server-address localhost)
(xend-tcp-xmlrpc-server-port ${xmlrpc})
(xen-api-server ((unix none) (localhost:${xenApi} none '^localhost$ ^127 ^::1$')))
(xend-http-server yes)
(xend-address localhost)
(xend-port ${http})
`;
    const world = new World(await TestHost.start({ memoryMiB: MEMORY_MIB, xendConfig }), { xmlrpc, xenApi, http });
    writeFileSync(world.kernel, consoleShell());
    return world;
  }

  get socket(): string {
    return this.host.host.paths.xendXmlrpc;
  }

  connect(): Promise<RpcConnection> {
    return RpcConnection.open({ path: this.socket });
  }

  /** One call on a connection of its own. */
  async call(method: string, ...params: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    const connection = await this.connect();
    try {
      return await connection.call(method, ...params);
    } finally {
      connection.close();
    }
  }

  /** What `xm create` sends for a small guest. */
  config(name: string, ...more: readonly XmlRpcValue[]): XmlRpcValue {
    const image = ['linux', ['kernel', this.kernel], ['args', ''], ['tsc_mode', 0], ['nomigrate', 0]];
    return ['vm', ['name', name], ['memory', 8], ['on_crash', 'destroy'], ...more, ['image', image]];
  }

  async names(): Promise<readonly string[]> {
    return (await this.call('xend.domains_with_state', false, 'all', false)) as readonly string[];
  }

  xendPid(): number {
    return readState(this.host.host.paths.run)?.daemons.find(({ name }) => name === 'xend')?.pid ?? 0;
  }

  /** Kills xend and waits until the supervisor's next one answers. */
  async killXend(): Promise<void> {
    const pid = this.xendPid();
    process.kill(pid, 'SIGKILL');
    await this.xendAfter(pid);
  }

  async xendAfter(pid: number): Promise<void> {
    await until('xend answers again', async () => {
      const state = readState(this.host.host.paths.run)?.daemons.find(({ name }) => name === 'xend');
      if (state?.state !== 'up' || state.pid === pid) return false;
      return this.names().then(
        () => true,
        () => false,
      );
    });
  }

  /** Everything in xenstore below a path, as `xenstore-ls -f` shows it; empty where there is nothing. */
  async store(path: string): Promise<readonly string[]> {
    const { stdout } = await this.host.run('xenstore-ls', '-f', path);
    return stdout.split('\n').filter((line) => line !== '');
  }

  /** Arguments of node that run xm. */
  xmArguments(): readonly string[] {
    return program('xm').args;
  }

  stop(): Promise<void> {
    return this.host.stop();
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ports.push((server.address() as AddressInfo).port);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
