// Runs xm's common commands against a xend of its own that knows one domain, and keeps beside each file of the bundle V8's
// code of the functions that were used: `tools/node24 tools/warm-command.mjs DIST`. Part of the build.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { float } from '../packages/sxp/src/index.ts';
import { encodeResponse } from '../packages/xmlrpc-codec/src/index.ts';

const [dist = 'dist'] = process.argv.slice(2);
const run = mkdtempSync(join(tmpdir(), 'warm-'));

const domain = (name, domid) => [
  'domain', ['domid', domid], ['name', name], ['uuid', '00000000-0000-0000-0000-000000000001'], ['memory', 8], ['maxmem', 8],
  ['vcpus', 1], ['cpu_time', float(0.5)], ['online_vcpus', 1], ['start_time', float(1)], ['status', 2], ['state', '-b----'],
  ['image', ['linux', ['kernel', '/k']]], ['device', ['vif', ['mac', '00:16:3e:00:00:01']]],
]; // prettier-ignore
const vcpu = ['vcpu', ['number', 0], ['online', 1], ['blocked', 1], ['running', 0], ['cpu_time', float(1)], ['cpu', 0], ['cpumap', [0, 1]]]; // prettier-ignore
const device = [1, [['backend-id', 0], ['handle', 0], ['state', 4], ['virtual-device', 51712], ['mac', '00:16:3e:00:00:01']]]; // prettier-ignore
const answers = {
  'xend.domains_with_state': [domain('Domain-0', 0), domain('g', 1)],
  'xend.domain': domain('g', 1),
  'xend.domain.create': domain('g', 1),
  'xend.domain.getVCPUInfo': ['domain', ['domid', 1], ['name', 'g'], ['vcpu_count', 1], vcpu],
  'xend.domain.getDeviceSxprs': [device],
  'xend.domain.getBlockDeviceClass': 'vbd',
  'xend.domain.sched_credit_get': { weight: 256, cap: 0 },
  'xend.node.info': [['system', 'Linux'], ['host', 'h'], ['nr_cpus', 2], ['total_memory', 64], ['xen_scheduler', 'credit']], // prettier-ignore
};

const CONFIG = `
import os, os.path
def name_of(number):
    return "g%d" % number
kernel = os.path.join("/boot", "vmlinuz")
ramdisk = '/boot/initrd'
name = name_of(1)
memory = 4 * 16
vcpus = 1
disk = [ 'file:/disk.img,xvda,w' ]
vif = ['mac=00:16:3e:00:00:%02x, bridge=xenbr0' % i for i in range(1)]
extra = ""
for word in ("console=hvc0", 'quiet'):
    extra = extra + " " + word
if memory > 32 and not (vcpus != 1):
    on_crash = 'destroy'
else:
    on_crash = "preserve"
options = { 'a': 1, 'b': [1, 2.5, None] }
root = "/dev/xvda%(a)d ro" % options
`;
const COMMANDS = [
  'help', 'list', 'list -l g', 'list --json', 'vcpu-list', 'domid g', 'domname 1', 'domstate g', 'uptime', 'info',
  'create -n CONFIG', 'create -q CONFIG memory=8', 'new CONFIG', 'start g', 'pause g', 'unpause g', 'shutdown g', 'reboot g',
  'destroy g', 'delete g', 'mem-set g 8', 'rename g h', 'block-list g', 'network-list g', 'block-attach g file:/d xvdb w',
  'block-detach g xvdb', 'network-attach g', 'network-detach g 0', 'sched-credit', 'save g FILE', 'restore FILE',
]; // prettier-ignore

const server = createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8').on('data', (text) => (body += text));
  request.on('end', () => {
    const method = /<methodName>(.*?)</.exec(body)?.[1] ?? '';
    response.setHeader('Content-Type', 'text/xml').end(encodeResponse(answers[method] ?? null));
  });
});

try {
  mkdirSync(join(run, 'xend'));
  writeFileSync(join(run, 'g.cfg'), CONFIG.replaceAll('/boot/', `${run}/`).replace('"/boot"', `"${run}"`));
  for (const file of ['vmlinuz', 'initrd', 'saved']) writeFileSync(join(run, file), '');
  await new Promise((done) => server.listen(join(run, 'xend', 'xmlrpc.sock'), done));
  // Nothing of the caller's shall lead these commands to a xend that is real.
  delete process.env.XM_SERVER;
  Object.assign(process.env, { XENHOST_RUN: run, XM_CONFIG_FILE: join(run, 'none.xml') });
  const { load, loaded, scripts } = createRequire(import.meta.url)(resolve(dist, 'xm.cjs'));
  for (const command of COMMANDS) {
    const words = command.replace('CONFIG', join(run, 'g.cfg')).replace('FILE', join(run, 'saved')).split(' ');
    process.argv = [process.execPath, 'xm', ...words];
    process.exitCode = undefined;
    process.removeAllListeners('SIGINT');
    loaded.delete('./xm.js');
    load('./xm.js');
    while (process.exitCode === undefined) await sleep(1);
    // Help and usages end with 1 as they ought to; these do not.
    if (process.exitCode !== 0) throw new Error(`xm ${command}: exit code ${process.exitCode}`);
  }
  for (const [file, script] of scripts) writeFileSync(`${file}.code`, script.createCachedData());
  process.exitCode = 0;
} finally {
  server.close();
  server.closeAllConnections();
  rmSync(run, { recursive: true, force: true });
}
