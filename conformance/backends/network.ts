/** Guests' networks: two guests and this machine move data with every byte checked, DHCP, HTTP, limits, captures of nothing lost. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { assert, type ConsoleSession, freePort, providePasst, type TestHost } from '@xenhost/testkit';
import { gioEnded, must, type World } from './world.ts';

const TIMEOUT_MS = 600_000;
const HTTP_MIB = 8;
const GIO_PORT = 5577;
/** Of the limited interface: in config files `rate` is in bytes a second. */
const RATE_MB_S = 2;
/** Above the limit: what a bucket of one window may let through at once. */
const RATE_SLACK = 1.25;
const RATE_MIB = 12;
const PINGS = 20;

export const linked = async (shell: ConsoleSession, address: string): Promise<void> => {
  await must(shell, `ip addr add ${address}/24 dev eth0 && ip link set eth0 up`);
};

export async function serve(shell: ConsoleSession): Promise<void> {
  await shell.command(`(gio serve ${GIO_PORT} >/tmp/serve 2>&1 &)`, TIMEOUT_MS);
  await must(shell, `sleep 1 && grep -q serving /tmp/serve`);
}

/** Both directions; seed 0 would be unchecked. */
async function bothWays(shell: ConsoleSession, address: string, port: number, megabytes: number): Promise<string> {
  const sent = gioEnded(await must(shell, `gio send ${address} ${port} ${megabytes} 3`, TIMEOUT_MS));
  const got = gioEnded(await must(shell, `gio get ${address} ${port} ${megabytes} 4`, TIMEOUT_MS));
  return `there ${rate(sent)}, back ${rate(got)}`;
}

function rate(line: string): string {
  const [, bytes = '0', ns = '1'] = /bytes=(\d+) ns=(\d+)/.exec(line) ?? [];
  return `${((Number(bytes) / Number(ns)) * 1000).toFixed(1)} MB/s`;
}

async function guests(world: World, host: TestHost): Promise<void> {
  const { report, options } = world;
  const one = await world.start(host, 'one', { vif: ['mac=00:16:3e:00:00:01'] });
  const two = await world.start(host, 'two', { vif: ['mac=00:16:3e:00:00:02'], vcpus: 2 });
  await report.case('two guests ping one another', async () => {
    await linked(one, '10.9.0.1');
    await linked(two, '10.9.0.2');
    const output = await must(two, `ping -c ${PINGS} -i 0.05 -s 1400 10.9.0.1`);
    assert(output.includes(` ${PINGS} packets received`), output.slice(-300));
    return /round-trip.*/.exec(output)?.[0].trim();
  });
  await serve(one);
  await report.case(`guest to guest: ${options.megabytes} MB each way`, () =>
    bothWays(two, '10.9.0.1', GIO_PORT, options.megabytes),
  );
  await report.case('guest to guest with an MTU of 600', async () => {
    await must(two, 'ip link set eth0 mtu 600');
    const figures = await bothWays(two, '10.9.0.1', GIO_PORT, 2);
    await must(two, 'ip link set eth0 mtu 1500');
    return figures;
  });
  await report.case('rate= holds', async () => {
    await host.mustXm('network-attach', 'two', `rate=${RATE_MB_S}MB/s`);
    await must(two, 'sleep 1 && ip addr add 10.9.1.2/24 dev eth1 && ip link set eth1 up');
    await must(one, 'ip addr add 10.9.1.1/24 dev eth0');
    const line = gioEnded(await must(two, `gio send 10.9.1.1 ${GIO_PORT} ${RATE_MIB} 5`, TIMEOUT_MS));
    const [, bytes = '0', ns = '1'] = /bytes=(\d+) ns=(\d+)/.exec(line) ?? [];
    const megabytes = (Number(bytes) / Number(ns)) * 1000;
    assert(megabytes <= RATE_MB_S * RATE_SLACK, `${megabytes.toFixed(2)} MB/s instead of ${RATE_MB_S}`);
    return `${megabytes.toFixed(2)} MB/s of ${RATE_MB_S}`;
  });
  await report.case('xm network-list shows both interfaces', async () => {
    const list = await host.mustXm('network-list', 'two');
    assert([...list.matchAll(/00:16:3e/gi)].length === 2, list);
  });
  await world.destroy(host, 'one');
  await world.destroy(host, 'two');
}

/** The outside world: servers on this machine's loopback address. */
async function uplink(world: World, host: TestHost): Promise<void> {
  const { report, options } = world;
  const { gio } = world.guest;
  const body = randomBytes(HTTP_MIB << 20);
  const server = createServer((_, response) => response.end(body));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const httpPort = (server.address() as AddressInfo).port;
  const gioPort = await freePort();
  const child: ChildProcess | undefined =
    gio === undefined ? undefined : spawn(gio, ['serve', String(gioPort)], { stdio: 'ignore' });
  try {
    const shell = await world.start(host, 'out', { vif: [''] });
    let gateway = '';
    const leased = await report.case('DHCP gives address, router and name server', async () => {
      const output = await must(shell, 'ip link set eth0 up && udhcpc -i eth0 -n -q -t 10 -s /dhcp', TIMEOUT_MS);
      const line = /^dhcp: address (\S+) router (\S*) dns (\S*)/m.exec(output);
      assert(line?.[2] !== undefined && line[2] !== '', output.slice(-400));
      gateway = line[2];
      return line[0];
    });
    if (!leased) return;
    await report.case('ping of the gateway', async () => {
      const output = await must(shell, `ping -c ${PINGS} -i 0.05 ${gateway}`);
      return /round-trip.*/.exec(output)?.[0].trim();
    });
    await report.case(`HTTP: ${HTTP_MIB} MB from a server on loopback`, async () => {
      await must(shell, `wget -q -O /tmp/page http://${gateway}:${httpPort}/page`, TIMEOUT_MS);
      const output = await must(shell, 'sha256sum /tmp/page');
      assert(output.includes(createHash('sha256').update(body).digest('hex')), 'another checksum');
    });
    if (child !== undefined)
      await report.case(`guest and host: ${options.megabytes} MB each way`, () =>
        bothWays(shell, gateway, gioPort, options.megabytes),
      );
    await report.case('the uplink after kill -9 of netback', async () => {
      await host.killDaemon('netback');
      await must(shell, `timeout 120 wget -q -O /tmp/page http://${gateway}:${httpPort}/page`, TIMEOUT_MS);
    });
    await world.destroy(host, 'out');
  } finally {
    child?.kill('SIGKILL');
    server.close();
    server.closeAllConnections();
  }
}

export async function networkPart(world: World): Promise<void> {
  const missing = await providePasst((line) => world.report.note(line));
  await world.withHost((host) => guests(world, host));
  if (missing !== undefined) world.report.skip('DHCP, HTTP and transfers through the uplink', missing);
  else await world.withHost((host) => uplink(world, host));
}
