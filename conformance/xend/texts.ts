/**
 * What xm prints, character by character: rows are built here from the formats of Xen 4.4 and from what xend says of the same
 * domains, never from xm's own code.
 */
import { childrenOf, childValue, prettySxp, pythonUnescape, type Sxp } from '@xenhost/sxp';
import { assert, type Report } from '@xenhost/testkit';
import type { World } from './world.ts';

/** What xm prints and how it ends. */
interface Printed {
  readonly out?: string | RegExp;
  readonly err?: string | RegExp;
  readonly code?: number;
}

const left = (value: unknown, width: number): string => String(value).padEnd(width);
const right = (value: unknown, width: number): string => String(value).padStart(width);
const seconds = (value: Sxp | undefined): string => Number(String(value)).toFixed(1);
const escaped = (line: string): string => line.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);

const NAME = 'texts';
const MANAGED = 'texts-stored';

/** Text of SXP atoms, as they stand in a list. */
const valueOf = (sxp: Sxp, key: string): string => String(childValue(sxp, key) ?? '');

export async function runTexts(world: World, report: Report): Promise<void> {
  const xm = async (args: readonly string[], { out = '', err = '', code = 0 }: Printed): Promise<void> => {
    const result = await world.host.xm(...args);
    const matches = (got: string, wanted: string | RegExp, what: string): void => {
      const fits = typeof wanted === 'string' ? got === wanted : wanted.test(got);
      assert(
        fits,
        `${what} ${JSON.stringify(got)} instead of ${typeof wanted === 'string' ? JSON.stringify(wanted) : String(wanted)}`,
      );
    };
    assert(
      result.code === code,
      `exit code ${String(result.code)} instead of ${code}: ${result.stdout}${result.stderr}`,
    );
    matches(result.stdout, out, 'printed');
    matches(result.stderr, err, 'complained');
  };
  const prints = (args: readonly string[], printed: Printed): Promise<boolean> =>
    report.case(`xm ${args.join(' ')}`.slice(0, 70), () => xm(args, printed));
  const domain = async (name: string): Promise<Sxp> => (await world.call('xend.domain', name, 1)) as Sxp;

  const file = world.host.config(NAME, { kernel: world.kernel, memory: 8, vcpus: 2, on_crash: 'preserve' });
  await prints(['create', '-p', file], {
    out: new RegExp(`^Using config file "${escaped(file)}"\\.\nStarted domain ${NAME} \\(id=\\d+\\)\n$`),
  });
  await prints(['create', '-p', file], {
    out: `Using config file "${file}".\n`,
    err: new RegExp(`^Error: Domain '${NAME}' already exists with ID '\\d+'\n$`),
    code: 1,
  });
  await world.host.mustXm('new', '-q', file, `name=${MANAGED}`);
  const guest = await domain(NAME);
  const id = valueOf(guest, 'domid');
  const time = right(seconds(childValue(guest, 'cpu_time')), 8);

  const header = `${left('Name', 40)} ${right('ID', 5)} ${right('Mem', 5)} ${right('VCPUs', 5)} ${right('State', 10)} ${right('Time(s)', 9)}\n`;
  const row = (name: string, domid: string, memory: number, vcpus: number, state: string, at: string): string =>
    `${left(name, 40)} ${right(domid, 5)} ${right(memory, 5)} ${right(vcpus, 5)} ${right(state, 10)} ${at}\n`;
  // Of a guest that has not run yet only the first vCPU is online.
  const guestRow = row(NAME, id, 8, 1, '--p---', time);
  const storedRow = row(MANAGED, '', 8, 2, '', right('0.0', 8));
  await prints(['list', NAME], { out: header + guestRow });
  await prints(['list'], {
    out: new RegExp(
      `^${escaped(header)}Domain-0 {32} {5}0 +\\d+ +\\d+ {5}[r-][b-]---- +\\d+\\.\\d\n${escaped(guestRow)}${escaped(storedRow)}$`,
    ),
  });
  await prints(['list', '--long', NAME], { out: `${prettySxp(await domain(NAME))}\n` });
  await prints(['list', 'nobody'], { err: "Error: Domain 'nobody' does not exist.\n", code: 3 });

  const vcpuHeader = `${left('Name', 32)} ${right('ID', 5)} ${right('VCPU', 5)} ${right('CPU', 5)} ${right('State', 5)} ${right('Time(s)', 9)} CPU Affinity\n`;
  const vcpus = childrenOf((await world.call('xend.domain.getVCPUInfo', NAME)) as Sxp, 'vcpu');
  await prints(['vcpu-list', NAME], {
    out: vcpuHeader + vcpus.map((vcpu) => vcpuRow(NAME, id, vcpu)).join(''),
  });
  await prints(['uptime', NAME], {
    out: new RegExp(
      `^${escaped(`${left('Name', 33)} ${right('ID', 4)} Uptime `)}\n${escaped(`${left(NAME, 32)} ${right(id, 5)} `)} 0:\\d\\d:\\d\\d\n$`,
    ),
  });
  await prints(['sched-credit', '-d', NAME], {
    out: `${left('Name', 33)} ${right('ID', 4)} ${right('Weight', 6)} ${right('Cap', 4)}\n${left(NAME, 32)} ${right(id, 5)} ${right(256, 6)} ${right(0, 4)}\n`,
  });
  const otherScheduler = { err: 'Error: Xen is running with the credit scheduler\n', code: 1 };
  for (const args of [['sched-credit2'], ['sched-credit2', '-d', NAME], ['sched-credit2', '-d', NAME, '-w', '8'], ['sched-sedf', NAME]]) await prints(args, otherScheduler); // prettier-ignore
  await prints(['domid', NAME], { out: `${id}\n` });
  await prints(['domid', MANAGED], { out: 'None\n' });
  await prints(['domname', id], { out: `${NAME}\n` });
  await prints(['domstate', NAME], { out: 'paused\n' });
  await prints(['domstate', MANAGED], { out: 'shutoff\n' });
  await prints(['pause', NAME], {});
  await prints(['domstate', NAME], { out: 'paused by admin\n' });
  await prints(['unpause', NAME], {});
  await prints(['block-list', NAME], {});
  await prints(['network-list', NAME], {});
  await runDeviceTexts(world, prints, id);

  const info = (await world.call('xend.node.info', 0)) as readonly (readonly [string, Sxp])[];
  await prints(['info'], { out: infoLines(info) });
  const cpus = info.find(([key]) => key === 'nr_cpus')?.[1];
  await prints(['cpupool-list'], {
    out: `Name               CPUs   Sched     Active   Domain count\n${left('Pool-0', 16)}   ${right(String(cpus), 3)}  ${right('credit', 8)}       y          2\n`,
  });
  await prints(['cpupool-list', '-c'], {
    out: `${left('Name', 16)} CPU list\n${left('Pool-0', 16)} ${Array.from({ length: Number(cpus) }, (_, i) => i).join(',')}\n`,
  });
  const dmesg = pythonUnescape((await world.call('xend.node.dmesg.info')) as string);
  await prints(['dmesg'], { out: new RegExp(`^${escaped(dmesg)} ?$`) });

  await prints(['pause'], {
    out: /^Usage: xm pause <Domain>\n\n[A-Z][^\n]+\.\n/,
    err: "Error: 'xm pause' requires 1 arguments.\n\n",
    code: 1,
  });
  await prints(['dance'], {
    out: /^Usage: xm <subcommand> \[args\]\n/,
    err: 'Error: Subcommand dance not found!\n',
    code: 1,
  });
  await prints(['mem-set', NAME, 'much'], {
    out: /^ignoring unknown unit\nUsage: xm mem-set /,
    err: 'Error: Invalid argument.\n',
    code: 1,
  });
  await prints(['shutdown', '-H', '-R', NAME], { err: "Error: Can't specify halt and reboot\n", code: 1 });
  await prints(['rename', NAME, 'a/b'], { out: /^Usage: xm rename /, err: 'Error: Invalid VM Name\n', code: 1 });
  await runWithoutFile(world, prints);
  await prints(['create', '/none/there'], {
    out: /^Usage: xm create <ConfigFile> \[options\] \[vars\]\n/,
    err: 'Error: Unable to open config file: /none/there\n',
    code: 1,
  });
  await report.case('xm without xend', async () => {
    const none = await world.host.run(
      'env',
      `XM_SERVER=httpu://${world.host.directory}/none`,
      ...program(world),
      'list',
    );
    assert(
      none.stderr === 'Error: Unable to connect to xend: No such file or directory. Is xend running?\n',
      none.stderr,
    );
    assert(none.code === 1, `exit code ${String(none.code)}`);
  });
  await prints(['create', '-n', file], {
    out: new RegExp(`^Using config file "${escaped(file)}"\\.\n\\(vm\n    \\(name ${NAME}\\)\n    \\(memory 8\\)\n`),
  });

  await prints(['delete', MANAGED], {});
  await prints(['destroy', NAME], {});
  await prints(['destroy', NAME], { err: `Error: Domain '${NAME}' does not exist.\n`, code: 3 });
}

/** `xm create /dev/null SETTING=...`, a pipe as the file, and a command that only a Xen-API server has. */
async function runWithoutFile(
  world: World,
  prints: (args: readonly string[], printed: Printed) => Promise<boolean>,
): Promise<void> {
  const settings = [`kernel=${world.kernel}`, 'memory=8', 'name=texts-none'];
  await prints(['create', '-p', '/dev/null', ...settings], {
    out: /^Using config file "\/dev\/null"\.\nStarted domain texts-none \(id=\d+\)\n$/,
  });
  await prints(['destroy', 'texts-none'], {});
  await prints(['create', '/dev/zero', ...settings], {
    out: 'Using config file "/dev/zero".\n',
    err: 'Error: /dev/zero is larger than 1048576 bytes\n',
    code: 1,
  });
  const onlyXenApi = { err: 'Error: This function is only supported by Xen-API\n', code: 1 };
  await prints(['network-new'], onlyXenApi);
  await prints(['network-show', 'a', 'b'], onlyXenApi);
}

/** Disks and interfaces, with backends that do take them; the small guest has no frontends: `state` stays 1. */
async function runDeviceTexts(
  world: World,
  prints: (args: readonly string[], printed: Printed) => Promise<boolean>,
  id: string,
): Promise<void> {
  const usage = (command: string): RegExp => new RegExp(`^Usage: xm ${command} <Domain> `);
  const disk = `file:${world.kernel}`;
  await prints(['block-attach', NAME, disk, 'xvda', 'r'], {});
  await prints(['block-list', NAME], {
    out:
      'Vdev  BE handle state evt-ch ring-ref BE-path\n' +
      `51712  0    0     1      -1     -1    ${left(`/local/domain/0/backend/vbd/${id}/51712`, 30)}  \n`,
  });
  await prints(['block-attach', NAME, disk, 'xvda', 'r'], {
    out: usage('block-attach'),
    err: 'Error: The device "xvda" is already defined\n',
    code: 1,
  });
  await prints(['block-attach', NAME, 'file:/none/there', 'xvdb', 'w'], {
    out: usage('block-attach'),
    err: 'Error: Device 51728 (vbd) could not be connected. /none/there does not exist.\n',
    code: 1,
  });
  const other = world.host.config('texts-two', { kernel: world.kernel, memory: 8, disk: [`${disk},xvda,w`] });
  await prints(['create', '-q', '-p', other], {
    err:
      `Error: Device 51712 (vbd) could not be connected.\nFile ${world.kernel} is mounted in a guest domain,\n` +
      'and so cannot be mounted now.\n',
    code: 1,
  });
  await prints(['network-attach', NAME, 'mac=00:16:3e:01:02:03', 'bridge=xenbr0', 'rate=10Mb/s'], {});
  await prints(['network-list', NAME], {
    out:
      'Idx BE     MAC Addr.     handle state evt-ch tx-/rx-ring-ref BE-path\n' +
      `0   0  00:16:3e:01:02:03    0     1      -1    -1   /-1      ${left(`/local/domain/0/backend/vif/${id}/0`, 30)}  \n`,
  });
  await prints(['network-attach', NAME, 'colour=red'], {
    out: usage('network-attach'),
    err: 'Error: Invalid argument: colour=red\n',
    code: 1,
  });
  await prints(['network-detach', NAME, '00:16:3e:00:00:00'], {
    out: usage('network-detach'),
    err: `Error: Cannot find device '00:16:3e:00:00:00' in domain '${NAME}'\n`,
    code: 1,
  });
  await prints(['network-detach', NAME, '00:16:3E:01:02:03'], {});
  await prints(['block-detach', NAME, 'xvdz'], { out: usage('block-detach'), err: /^Error: /, code: 1 });
  await prints(['block-detach', NAME, 'xvda'], {});
  await prints(['block-list', NAME], {});
  await prints(['network-list', NAME], {});
}

/** xm as `World` runs it, for another environment. */
function program(world: World): readonly string[] {
  return [process.execPath, ...world.xmArguments()];
}

function vcpuRow(name: string, id: string, vcpu: Sxp): string {
  const flag = (key: string): boolean => Number(childValue(vcpu, key)) === 1;
  const affinity = childValue(vcpu, 'cpumap') as readonly number[];
  const online = flag('online');
  const state = online ? `${flag('running') ? 'r' : '-'}${flag('blocked') ? 'b' : '-'}-` : '--p';
  const cpu = online ? valueOf(vcpu, 'cpu') : '-';
  const cells = [left(name, 32), right(id, 5), right(valueOf(vcpu, 'number'), 5), right(cpu, 5), right(state, 5)];
  return `${cells.join(' ')}  ${right(seconds(childValue(vcpu, 'cpu_time')), 8)} ${affinity.length > 1 ? 'any cpu' : String(affinity[0])}\n`;
}

/** All but the first pair, as `%-23s: VALUE`. */
function infoLines(info: readonly (readonly [string, Sxp])[]): string {
  return info
    .slice(1)
    .map(([key, value]) => `${left(key, 23)}: ${String(value)}\n`)
    .join('');
}
