/**
 * A xend for tests: the real xenstored on a Unix socket, a hypervisor that is a fake, a clock that stands. Fresh for each
 * test; asked over XML-RPC as xm does.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request, type IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@xenhost/base';
import { createLogger } from '@xenhost/daemon-kit';
import { FakeXenctrl } from '@xenhost/testkit';
import { decodeResponse, encodeCall, type XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { startXenstored, type Xenstored } from '@xenhost/xenstored';
import { DEFAULT_SETTINGS } from '../options/settings.ts';
import type { StateFolders } from '../store/managed.ts';
import { memoryLog, Xend, type ServerSpec, type XendPorts, type XendSettings } from '../index.ts';

interface Reply {
  readonly statusCode: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export class XendFixture {
  directory = '';
  store!: XenstoreClient;
  xc!: FakeXenctrl;
  clock!: FakeClock;
  xend!: Xend;
  /** What xend-config.sxp would say. */
  settings: XendSettings = DEFAULT_SETTINGS;
  /** What is served beside legacy XML-RPC on a Unix socket. */
  servers: readonly ServerSpec[] = [];
  /** Where parts of its state are that are elsewhere. */
  folders: StateFolders | undefined;
  #daemon!: Xenstored;

  readonly ports = (): XendPorts => ({
    xc: this.xc,
    build: this.xc.build,
    store: this.store,
    clock: this.clock,
    log: memoryLog(),
    host: { system: 'Linux', host: 'tester', release: '6.1', version: '#1', machine: 'x86_64' },
    readFile: (path) =>
      path.startsWith('/boot/')
        ? Promise.resolve(Buffer.from(path === '/boot/junk' ? 'junk' : 'kernel'))
        : Promise.reject(Object.assign(new Error(`ENOENT: no such file, open '${path}'`), { code: 'ENOENT' })),
    dumpDirectory: join(this.directory, 'dump'),
    settings: this.settings,
    sysfs: join(this.directory, 'sys'),
    sleep: () => Promise.resolve(),
  });

  readonly newXend = (): Xend =>
    new Xend(
      {
        servers: [xmlrpcOn(this.#socketPath()), ...this.servers],
        stateDirectory: join(this.directory, 'lib'),
        ...(this.folders && { folders: this.folders }),
        pollMs: 0,
      },
      this.ports(),
    );

  async start(): Promise<void> {
    this.settings = DEFAULT_SETTINGS;
    this.folders = undefined;
    this.directory = mkdtempSync(join(tmpdir(), 'xh-'));
    const path = join(this.directory, 's');
    this.#daemon = await startXenstored({ socketPath: path }, { log: createLogger('t', { level: 'silent' }) });
    this.store = await XenstoreClient.connect({ path });
    this.xc = new FakeXenctrl({ totalMiB: 256 });
    this.clock = new FakeClock();
    this.xend = this.newXend();
    await this.xend.start();
  }

  async stop(): Promise<void> {
    await this.xend.stop();
    await this.store.close();
    await this.#daemon.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Another xend over the same store, hypervisor and state directory. */
  readonly restart = async (): Promise<void> => {
    await this.xend.stop();
    this.xend = this.newXend();
    await this.xend.start();
  };

  /** A request over the Unix socket. */
  readonly post = (payload: string): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'text/xml' };
      const asking = request({ socketPath: this.#socketPath(), method: 'POST', path: '/RPC2', headers }, (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
        response.on('end', () => {
          resolve({ statusCode: response.statusCode, headers: response.headers, body });
        });
      });
      asking.on('error', reject).end(payload);
    });

  readonly call = async (method: string, ...params: XmlRpcValue[]): Promise<XmlRpcValue> => {
    const reply = await this.post(encodeCall(method, params));
    expect(reply.statusCode).toBe(200);
    expect(reply.headers['content-type']).toBe('text/xml');
    expect(reply.headers['content-length']).toBe(String(Buffer.byteLength(reply.body)));
    return decodeResponse(reply.body);
  };

  /** Code and text of the fault that a call ends with; 0 where it ends well. */
  readonly fault = async (method: string, ...params: XmlRpcValue[]): Promise<[number, string]> => {
    try {
      await this.call(method, ...params);
    } catch (error) {
      const { faultCode, faultString } = error as XmlRpcFault;
      return [faultCode, faultString];
    }
    return [0, 'no fault'];
  };

  readonly names = async (): Promise<XmlRpcValue> => this.call('xend.domains_with_state', false, 'all', false);

  /** Everything in xenstore below a path, as `path = value`. */
  readonly tree = async (path: string): Promise<string[]> => {
    const lines: string[] = [];
    for (const name of await this.store.tryDirectory(path)) {
      const child = `${path === '/' ? '' : path}/${name}`;
      lines.push(`${child} = ${(await this.store.tryRead(child)) ?? ''}`, ...(await this.tree(child)));
    }
    return lines;
  };

  /** What a backend counts of a device, `class/net/vif1.0` or `bus/xen-backend/devices/vbd-1-51712`. */
  readonly counted = (device: string, counters: Readonly<Record<string, number>>): void => {
    const folder = join(this.directory, 'sys', device, 'statistics');
    mkdirSync(folder, { recursive: true });
    for (const [name, value] of Object.entries(counters)) writeFileSync(join(folder, name), `${value}\n`);
  };

  /** The domain shuts down; xend has seen it and done what follows. */
  readonly end = async (domid: number, reason: number): Promise<void> => {
    this.xc.shutDown(domid, reason);
    await this.xend.manager.refresh();
    await this.xend.manager.settle();
  };

  #socketPath(): string {
    return join(this.directory, 'xend', 'x');
  }
}

/** The one server that xend opens without a configuration. */
export const xmlrpcOn = (path: string): ServerSpec => ({
  service: 'xmlrpc',
  key: 'xend-unix-xmlrpc-server',
  address: { path, folderMode: 0o700 },
});

/** Registers start and stop around each test of the file. */
export function xendFixture(): XendFixture {
  const fixture = new XendFixture();
  beforeEach(() => fixture.start());
  afterEach(() => fixture.stop());
  return fixture;
}

/** What `xm create` would send for a Linux guest. */
export const config = (name: string, ...more: readonly XmlRpcValue[]): XmlRpcValue => [
  'vm',
  ['name', name],
  ['memory', 64],
  ...more,
  [
    'image',
    [
      'linux',
      ['kernel', '/boot/vmlinuz'],
      ['root', '/dev/xvda1'],
      ['args', 'quiet'],
      ['tsc_mode', 0],
      ['nomigrate', 0],
    ],
  ],
];
