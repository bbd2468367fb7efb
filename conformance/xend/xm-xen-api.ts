/**
 * xm with a Xen-API server (xm-config.xml): the life of machines, their devices and pools, and the words for what fails, as
 * Xen 4.4's own xm printed them when it was run beside ours against one xend.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, until, type Report } from '@xenhost/testkit';
import { program } from '@xenhost/xenhost';
import type { World } from './world.ts';

const KEPT = 'api-kept';
const ONCE = 'api-once';
const MAC = '00:16:3e:0a:0b:0c';

interface Printed {
  readonly out?: string | RegExp;
  readonly err?: string | RegExp;
  readonly code?: number;
}

const matches = (got: string, wanted: string | RegExp): boolean =>
  typeof wanted === 'string' ? got === wanted : wanted.test(got);

export async function runXmXenApi(world: World, report: Report): Promise<void> {
  const server = join(world.host.directory, 'xm-config.xml');
  const uri = `http://localhost:${world.ports.xenApi}`;
  writeFileSync(server, `<xm><server type="Xen-API" uri="${uri}" username="root" password=""/></xm>`);
  const { command, args: own } = program('xm');
  const xm = (args: readonly string[]) => world.host.run('env', `XM_CONFIG_FILE=${server}`, command, ...own, ...args);
  const prints = (line: string, { out = '', err = '', code = 0 }: Printed = {}): Promise<boolean> =>
    report.case(`xm ${line.replaceAll(`${world.host.directory}/`, '')}`, async () => {
      const result = await xm(line.split(' '));
      const shown = JSON.stringify(result);
      assert(result.code === code, `exit code ${String(result.code)} instead of ${code}: ${shown}`);
      assert(matches(result.stdout, out), `printed ${shown} instead of ${String(out)}`);
      assert(matches(result.stderr, err), `complained ${shown} instead of ${String(err)}`);
    });
  const disk = `disk=file:${world.kernel},xvda,r`;
  const kept = world.host.config(KEPT, { kernel: world.kernel, memory: 8, vif: [`mac=${MAC},bridge=xenbr0`] });
  const once = world.host.config(ONCE, { kernel: world.kernel, memory: 8 });

  await prints(`new -q ${kept} ${disk}`);
  await prints(`list ${KEPT}`, { out: new RegExp(`\\n${KEPT} +-1 +0 +0 +-{6} +0\\.0\\n$`) });
  await prints(`start -p ${KEPT}`);
  await prints(`start ${KEPT}`, {
    err: /^'VM_BAD_POWER_STATE'\n\nXen-API failure: \['VM_BAD_POWER_STATE',\n'[0-9a-f-]{36}', 'Halted', 'Paused'\]\n\n$/,
    code: 1,
  });
  await prints(`domstate ${KEPT}`, { out: 'paused by admin\n' });
  await prints(`unpause ${KEPT}`);
  await prints(`block-list ${KEPT}`, { out: /^Vdev +BE handle .*\n51712 +0 +0 .*\/backend\/vbd\/\d+\/51712 +\n$/ });
  await prints(`network-list ${KEPT}`, { out: new RegExp(`^Idx .*\\n0 +0 +${MAC} .*/backend/vif/\\d+/0 +\\n$`) });
  await prints(`list -l ${KEPT}`, {
    out: new RegExp(
      `\\n {4}\\(name_label ${KEPT}\\)\\n[^]*\\n {4}\\(VCPUs_params "\\{'cap': '0', 'weight': '256'\\}"\\)\\n`,
    ),
  });
  await prints('cpupool-list -l', { out: /\n {4}\(sched_policy credit\)\n[^]*\n {4}\(proposed_CPUs 0 1\)\n/ });
  await prints(`rename ${KEPT} ${KEPT}2`);
  await prints(`shutdown -w ${KEPT}2`, { out: /^Domain [0-9a-f-]{36} terminated\nAll domains terminated\n$/ });
  await prints(`delete ${KEPT}2`);

  await prints(`create -q ${once} ${disk}`);
  await prints(`destroy ${ONCE}`);
  await report.case('what create made is no more once it has ended', () =>
    until('it is gone', async () => !(await world.names()).includes(ONCE)),
  );
  await prints(`create -q ${once} on_crash=fly`, {
    out: /^Usage: xm create /,
    err: 'Error: Invalid argument.\n',
    code: 1,
  });
  await prints(`create -q ${once} vif=bridge=none`, {
    out: /^Usage: xm create /,
    err: "Error: Network none doesn't exist\n",
    code: 1,
  });
  await prints('cpupool-migrate nobody none', { err: 'Error: unknown pool name\n', code: 1 });
  await prints('network-attach nobody colour=red', {
    out: /^Usage: xm network-attach /,
    err: "Error: Domain 'nobody' not found.\n",
    code: 1,
  });
  await prints('getlabel mgt nobody', {
    out: /^Usage: xm getlabel /,
    err: 'Error: A VM with that name does not exist.\n',
    code: 1,
  });
  await prints('usb-list', { err: 'Error: This function is not supported by Xen-API\n', code: 1 });
  await report.case('nothing is left', async () => {
    const left = (await world.names()).filter((name) => name.startsWith('api-'));
    assert(left.length === 0, `${left.join(', ')} is left`);
  });
}
