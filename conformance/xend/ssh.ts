/**
 * `ssh://` through `xm serve` with OpenSSH's own sshd on a loopback port: own keys, own configuration, own /run. As root it
 * runs in a machine apart (apart.ts), as anybody else as that user. Skipped, with the reason, where it cannot be.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { childrenOf } from '@xenhost/daemon-kit';
import { assert, freePort, until, type CommandResult, type Report } from '@xenhost/testkit';
import { decodeResponse, encodeCall } from '@xenhost/xmlrpc-codec';
import { Apart, apartReason, debianProgram } from './apart.ts';
import type { World } from './world.ts';

const NAME = 'far';
const NOISE_BYTES = 3 << 20;
/** xm's last line when ssh, which has said why, gave no answer. */
const NO_STATUS = '\nXend has probably crashed!  Invalid or missing HTTP status code.\n';

/** What a running sshd is reached by. */
interface Far {
  readonly sshd: ChildProcess;
  /** `user@host`. */
  readonly to: string;
  /** Runs xm with this server and these words. */
  xm(server: string, ...args: readonly string[]): Promise<CommandResult>;
  /** Arguments of ssh before the address. */
  readonly options: readonly string[];
}

export async function runSsh(world: World, report: Report): Promise<void> {
  const name = 'ssh:// through a real sshd';
  const found = await debianProgram('/usr/sbin/sshd', ['openssh-server', 'libwrap0']);
  const noClient = spawnSync('ssh', ['-V']).status === 0 ? undefined : 'no ssh on this machine';
  const reason = noClient ?? ('reason' in found ? found.reason : process.geteuid?.() === 0 ? apartReason() : undefined);
  if (reason !== undefined || 'reason' in found) {
    report.skip(name, reason ?? '');
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'xh-'));
  try {
    const far = await startSshd(world, folder, found.file, found.env);
    try {
      await cases(world, report, far, folder);
    } finally {
      far.sshd.kill();
      await once(far.sshd, 'exit');
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function startSshd(world: World, folder: string, file: string, env: NodeJS.ProcessEnv): Promise<Far> {
  const port = await freePort();
  const user = userInfo().username;
  const at = (...parts: string[]): string => join(folder, ...parts);
  for (const key of ['host', 'client', 'foreign']) {
    const made = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', key, '-f', at(key)], {
      encoding: 'utf8',
    });
    assert(made.status === 0, `ssh-keygen: ${made.stderr}`);
  }
  writeFileSync(at('authorized'), readFileSync(at('client.pub')));
  writeFileSync(at('known'), `[127.0.0.1]:${port} ${readFileSync(at('host.pub'), 'utf8')}`);
  // The far side's xm is in its PATH, as installed; here it is this tree's, for this run's host.
  mkdirSync(at('far'));
  const own = [process.execPath, ...world.xmArguments()].map((word) => `'${word}'`).join(' ');
  program(at('far', 'xm'), `XENHOST_RUN='${world.host.host.paths.run}' exec ${own} "$@"\n`);
  const settings = [
    `ListenAddress 127.0.0.1:${port}`,
    ...[`HostKey ${at('host')}`, `PidFile ${at('pid')}`, `AuthorizedKeysFile ${at('authorized')}`],
    ...[
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'PermitRootLogin prohibit-password',
      'PrintMotd no',
    ],
    `SetEnv PATH=${at('far')}:/usr/bin:/bin`,
  ];
  writeFileSync(at('sshd_config'), `${settings.join('\n')}\n`);
  const client = [
    ...['Host *', `Port ${port}`, `IdentityFile ${at('client')}`, 'IdentitiesOnly yes', 'BatchMode yes'],
    ...[`UserKnownHostsFile ${at('known')}`, 'StrictHostKeyChecking yes', 'LogLevel ERROR'],
  ];
  writeFileSync(at('ssh_config'), `${client.join('\n')}\n`);
  const options = ['-F', at('ssh_config')];
  mkdirSync(at('near'));
  program(at('near', 'ssh'), `PATH='${process.env['PATH'] ?? ''}'\nexec ssh -F '${at('ssh_config')}' "$@"\n`);

  const command = [file, '-D', '-e', '-f', at('sshd_config')];
  const stdio = ['ignore', 'ignore', 'pipe'] as const;
  const sshd =
    process.geteuid?.() === 0
      ? rootSshd(folder, user, command, env)
      : spawn(file, command.slice(1), { stdio: [...stdio], env });
  let said = '';
  sshd.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
  await until(`sshd listens: ${said}`, () => reached(port), 10_000).catch((error: unknown) => {
    sshd.kill();
    throw new Error(`${String(error)}\n${said}`);
  });
  const xm = (server: string, ...args: readonly string[]): Promise<CommandResult> =>
    world.host.run(
      'env',
      `PATH=${at('near')}:/usr/bin:/bin`,
      'XENHOST_RUN=/none/there',
      `XM_SERVER=${server}`,
      process.execPath,
      ...world.xmArguments(),
      ...args,
    );
  return { sshd, to: `${user}@127.0.0.1`, xm, options };
}

/** Its user for privilege separation may be missing, and root's account may be locked: both only in the copy of /etc. */
function rootSshd(folder: string, user: string, command: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
  const apart = new Apart(folder);
  apart.sh(
    `grep -q ^sshd: /etc/passwd || echo 'sshd:x:64109:65534::/run/sshd:/usr/sbin/nologin' >> /etc/passwd
sed -i 's/^${user}:!/${user}:*/' /etc/shadow`,
  );
  return apart.spawn(command, ['ignore', 'ignore', 'pipe'], env);
}

function program(file: string, lines: string): void {
  writeFileSync(file, `#!/bin/sh\n${lines}`);
  chmodSync(file, 0o755);
}

const reached = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });

async function cases(world: World, report: Report, far: Far, folder: string): Promise<void> {
  const server = `ssh://${far.to}`;
  const same = async (...args: readonly string[]): Promise<void> => {
    const [near, there] = [await world.host.xm(...args), await far.xm(server, ...args)];
    assert(
      JSON.stringify(near) === JSON.stringify(there),
      `${JSON.stringify(there)} instead of ${JSON.stringify(near)}`,
    );
  };
  await report.case('ssh://user@host: what xm prints here and there', async () => {
    await same('domid', 'Domain-0');
    await same('list', 'nobody');
    await same('cpupool-list');
    await same('network-list', '--long', 'Domain-0');
  });
  await report.case('ssh://host and ssh://user@host/RPC2', async () => {
    for (const each of ['ssh://127.0.0.1', 'ssh://127.0.0.1/', `${server}/RPC2`]) {
      const { stdout, stderr } = await far.xm(each, 'domid', 'Domain-0');
      assert(stdout === '0\n' && stderr === '', `${each}: ${stdout}${stderr}`);
    }
  });
  await report.case('a whole life over ssh', async () => {
    const file = world.host.config(NAME, { kernel: world.kernel, memory: 8 });
    const must = async (...args: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await far.xm(server, ...args);
      assert(code === 0 && stderr === '', `xm ${args.join(' ')}: ${String(code)} ${stdout}${stderr}`);
      return stdout;
    };
    for (const args of [['new', file], ['start', '-p', NAME], ['unpause', NAME], ['pause', NAME], ['unpause', NAME], ['mem-max', NAME, '9']]) await must(...args); // prettier-ignore
    await must('shutdown', '-w', NAME);
    await must('delete', NAME);
    assert(!(await world.names()).includes(NAME), 'it is still there');
  });
  await report.case("Xen 4.4's own transport: lines that end in a line feed", () => oldTransport(far));
  await report.case(`a request of ${NOISE_BYTES >> 20} MiB`, async () => {
    const calls = [encodeCall('system.methodHelp', ['x'.repeat(NOISE_BYTES)]), encodeCall('xend.domains', [0])];
    const [, names = ''] = await talk(far, calls, '\r\n');
    assert(names.includes('Domain-0'), names.slice(0, 200));
  });
  await report.case('a key that nobody knows, a host that is none', async () => {
    const foreign = join(folder, 'ssh_config');
    const text = readFileSync(foreign, 'utf8');
    writeFileSync(foreign, text.replace(/IdentityFile .*/, `IdentityFile ${join(folder, 'foreign')}`));
    const denied = await far.xm(server, 'list');
    writeFileSync(foreign, text);
    assert(
      denied.code === 1 && /Permission denied \(publickey/.test(denied.stderr) && denied.stderr.endsWith(NO_STATUS),
      JSON.stringify(denied),
    );
    const nowhere = await far.xm('ssh://127.0.0.2', 'list');
    assert(nowhere.code === 1 && nowhere.stderr.endsWith(NO_STATUS), JSON.stringify(nowhere));
  });
  await report.case('no ssh in the PATH', async () => {
    const { code, stderr } = await world.host.run(
      'env',
      'PATH=/none',
      `XM_SERVER=${server}`,
      process.execPath,
      ...world.xmArguments(),
      'list',
    );
    assert(code === 1 && stderr === 'Error: ssh executable not found!\n', `${String(code)} ${stderr}`);
  });
  await report.case('xend is killed; the next command finds its successor', async () => {
    await world.killXend();
    await same('domid', 'Domain-0');
  });
  await report.case('no xm serve is left on the far side', async () => {
    const pid = far.sshd.pid ?? 0;
    await until(
      'sshd has no sessions',
      () => Promise.resolve(existsSync(`/proc/${pid}`) && childrenOf(pid).length === 0),
      5000,
    );
  });
}

/** As `SSHTransport.py` writes: no carriage returns, and several calls on one connection. */
async function oldTransport(far: Far): Promise<void> {
  const answers = await talk(far, [encodeCall('xend.domains', [0]), encodeCall('xend.node.log', [])], '\n');
  const [names, log] = answers.map((body) => decodeResponse(body));
  assert(JSON.stringify(names).includes('Domain-0'), JSON.stringify(names));
  assert(typeof log === 'string' && log.includes('xend'), 'no log');
}

/** Posts through `ssh ... 'xm serve'`, one call after the other; the bodies of the answers. */
async function talk(far: Far, bodies: readonly string[], lineEnd: string): Promise<string[]> {
  const ssh = spawn('ssh', [...far.options, far.to, 'xm serve'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(ssh, 'exit');
  let said = '';
  ssh.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  const answers: string[] = [];
  try {
    for (const body of bodies) {
      const lines = [
        'POST /RPC2 HTTP/1.1',
        'User-Agent: Xen',
        'Host: far',
        'Content-Type: text/xml',
        `Content-Length: ${Buffer.byteLength(body)}`,
        '',
        '',
      ];
      ssh.stdin.write(lines.join(lineEnd) + body);
      await until(
        'an answer',
        () => Promise.resolve(said.trimEnd().endsWith('</methodResponse>') || /^HTTP\/1\.1 [^2]/.test(said)),
        20_000,
      );
      assert(said.startsWith('HTTP/1.1 200 '), said.slice(0, 200));
      answers.push(said.slice(said.indexOf('<?xml')));
      said = '';
    }
  } finally {
    ssh.stdin.end();
    await ended;
  }
  return answers;
}
