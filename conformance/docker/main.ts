/**
 * docker-compose.yml on a real Docker engine: the image is built, the host comes up one service a daemon, a guest boots, talks
 * and shuts down, daemons come back after a crash, nothing is left. Needs `docker` with Compose v2 and an engine (DOCKER_HOST).
 *   --project NAME   default xenhost-conformance; what an earlier run left under this name is removed first
 *   --keep           leaves the host running
 */
import { createServer } from 'node:net';
import { parseArgs } from 'node:util';
import { consoleShellPrompt } from '@xenhost/guest-kernels';
import { Report, assert } from '@xenhost/testkit';
import { daemons, installationRoot } from '@xenhost/xenhost';
import { decodeResponse, encodeCall, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { command, ComposeProject } from './project.ts';

/** Where a user finds xend; another port is taken when somebody has this one. */
const XEND_PORT = 8006;
/** With a cold cache: a registry's answers for every package, and a bundle of them all. */
const BUILD_TIMEOUT_MS = 600_000;
const UP_TIMEOUT_MS = 120_000;
const GUEST_TIMEOUT_MS = 30_000;
const POLL_MS = 250;
const SHELL_CONFIG = '/opt/xenhost/dist/guests/shell.cfg';
const LEAVE_CONSOLE = '\x1d';

interface ComposeConfig {
  readonly services: Readonly<Record<string, { readonly command?: readonly string[] }>>;
}

/** Why there is no engine to test with; undefined when there is one. */
async function missingEngine(): Promise<string | undefined> {
  const answer = await command('docker', ['version', '--format', '{{.Server.Version}}']).catch(() => undefined);
  if (!answer) return 'docker is not installed';
  if (answer.code !== 0) return `no Docker engine answers (DOCKER_HOST): ${answer.stderr.trim()}`;
  const compose = await command('docker', ['compose', 'version', '--short']);
  return compose.code === 0 ? undefined : 'docker has no compose plugin';
}

/** The port a user would use when it is free, else any. */
async function freePort(wanted: number): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', () => {
      if (wanted === 0) reject(new Error('no free port'));
      else resolve(freePort(0));
    });
    server.listen(wanted, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address ? address.port : wanted;
      server.close(() => {
        resolve(port);
      });
    });
  });
}

async function call(port: number, method: string, ...params: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
  const response = await fetch(`http://127.0.0.1:${port}/RPC2`, {
    method: 'POST',
    headers: { 'content-type': 'text/xml' },
    body: encodeCall(method, params),
    signal: AbortSignal.timeout(GUEST_TIMEOUT_MS),
  });
  assert(response.status === 200, `HTTP status ${response.status}`);
  return decodeResponse(await response.text());
}

/** A service for each daemon, started with the flags that `xenhost up` starts it with. */
async function sameDaemons(project: ComposeProject): Promise<string> {
  const { services } = JSON.parse(await project.must(['config', '--format', 'json'])) as ComposeConfig;
  const names = Object.keys(services).sort();
  const expected = daemons.map(({ name }) => name).sort();
  assert(names.join() === expected.join(), `services ${names.join()}, daemons ${expected.join()}`);
  for (const { name, nodeFlags } of daemons) {
    const start = services[name]?.command?.join(' ') ?? '';
    assert(start.startsWith([...nodeFlags, `dist/${name}.mjs`].join(' ')), `${name} is started as: node ${start}`);
  }
  return names.join(' ');
}

async function unprivileged(project: ComposeProject): Promise<void> {
  for (const [name, state] of await project.services()) {
    assert(state.health === 'healthy', `${name} is ${state.health}`);
    assert(state.user === 'node' && !state.privileged, `${name} runs as ${state.user}`);
    assert(state.readOnly && state.droppedCapabilities.includes('ALL'), `${name} may write or has capabilities`);
    const expected = { xend: `${project.name}_default`, netback: `${project.name}_guests` }[name] ?? 'none';
    assert(state.networks.join() === expected, `${name} is in the networks ${state.networks.join()}`);
  }
}

/** A console of the guest by `xm console`, left by its escape key. */
async function onConsole(project: ComposeProject, dialogue: readonly (readonly [string, RegExp])[]): Promise<void> {
  const console = project.console('shell');
  try {
    // An empty line: a new xenconsoled does not know what the guest has printed before it.
    console.write('\r');
    await console.expect(consoleShellPrompt, GUEST_TIMEOUT_MS);
    for (const [line, answer] of dialogue) {
      console.write(`${line}\r`);
      await console.expect(answer, GUEST_TIMEOUT_MS);
    }
    console.write(LEAVE_CONSOLE);
    await until('xm console ends', () => Promise.resolve(console.closed));
  } finally {
    console.close();
  }
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + GUEST_TIMEOUT_MS; !(await condition());) {
    assert(Date.now() < deadline, `not within ${GUEST_TIMEOUT_MS} ms: ${what}`);
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

/** Kills a daemon inside its container as a crash would, and waits until the engine has brought it back. */
async function crash(project: ComposeProject, service: string): Promise<string> {
  const start = Date.now();
  const before = (await project.services()).get(service)?.restarts ?? 0;
  const kill = `process.kill(JSON.parse(fs.readFileSync('/tmp/ready')).pid, 'SIGKILL')`;
  await project.compose(['exec', '-T', service, 'node', '-e', kill]);
  await until(`${service} comes back`, async () => {
    const state = (await project.services()).get(service);
    return state !== undefined && state.restarts > before && state.health === 'healthy';
  });
  return `healthy again after ${Date.now() - start} ms`;
}

async function lists(project: ComposeProject, domain: RegExp): Promise<void> {
  const list = await project.xm('list');
  assert(domain.test(list), list);
}

async function cases(project: ComposeProject, report: Report, port: number): Promise<boolean> {
  await report.case('a service for each daemon', () => sameDaemons(project));
  const built = await report.case('build', async () => {
    await project.must(['build'], BUILD_TIMEOUT_MS);
  });
  if (!built) return false;
  const up = await report.case('up: all healthy', async () => {
    await project.must(['up', '-d', '--build', '--wait'], UP_TIMEOUT_MS);
  });
  if (!up) return false;
  await report.case('no root, no capabilities, no network but for xend and, apart from it, netback', () =>
    unprivileged(project),
  );
  await report.case('xm list', () => lists(project, /^Domain-0 +0 +\d+ +\d+ +r----- /m));
  await report.case('xm create', async () => {
    const out = await project.xm('create', SHELL_CONFIG);
    assert(out.includes('Started domain shell (id=1)'), out);
  });
  await report.case('xm console: the guest answers', () =>
    onConsole(project, [
      ['echo through the volume', /\nthrough the volume\r?\n/],
      ['xs-read name', /\nshell\r?\n/],
    ]),
  );
  await report.case(`XML-RPC on 127.0.0.1:${port}`, async () => {
    const names = await call(port, 'xend.domains', 0);
    assert(Array.isArray(names) && names.includes('shell'), JSON.stringify(names));
  });
  await report.case('xend after kill -9 finds the guest', async () => {
    const detail = await crash(project, 'xend');
    await lists(project, /^shell +1 +16 +1 /m);
    return detail;
  });
  await report.case('xenconsoled after kill -9: the guest answers', async () => {
    const detail = await crash(project, 'xenconsoled');
    await onConsole(project, [['echo still here', /\nstill here\r?\n/]]);
    return detail;
  });
  await report.case('xm shutdown -w', async () => {
    const out = await project.xm('shutdown', '-w', 'shell');
    assert(out.includes('Domain shell terminated'), out);
  });
  await report.case('the console log outlives the guest', async () => {
    const log = await project.must(['exec', '-T', 'xenconsoled', 'cat', '/xen/log/console/guest-shell.log']);
    assert(log.includes('through the volume'), log);
  });
  await report.case('up again after the hypervisor was killed', async () => {
    await project.must(['kill', 'hypervisor']);
    await project.must(['up', '-d', '--wait'], UP_TIMEOUT_MS);
    await lists(project, /^Domain-0 +0 /m);
  });
  return true;
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { project: { type: 'string', default: 'xenhost-conformance' }, keep: { type: 'boolean', default: false } },
  });
  const report = new Report();
  const missing = await missingEngine();
  if (missing !== undefined) {
    report.row('a Docker engine with Compose', false, missing);
    return report.close();
  }
  const port = await freePort(XEND_PORT);
  const project = new ComposeProject(values.project, installationRoot(), {
    XENHOST_IMAGE: values.project,
    XENHOST_XEND_PORT: String(port),
  });
  await project.compose(['down', '-v', '--remove-orphans']);
  try {
    if (!(await cases(project, report, port)) || report.failed > 0) {
      report.note((await project.compose(['logs', '--no-color', '--tail', '20'])).stdout);
    }
  } finally {
    if (!values.keep) {
      await report.case('down leaves nothing', async () => {
        await project.must(['down', '-v', '--remove-orphans']);
        const left = await project.traces();
        assert(left.length === 0, left.join(', '));
      });
      await command('docker', ['image', 'rm', values.project]);
    }
  }
  return report.close();
}
