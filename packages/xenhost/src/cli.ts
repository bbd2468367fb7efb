/** The `xenhost` command line: one table of commands makes dispatch and help. */
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';
import { hostDefaults } from './host.ts';

export interface Command {
  readonly name: string;
  readonly usage: string;
  readonly summary: string;
  readonly options: ParseArgsOptionsConfig;
  /** Arguments besides options. */
  readonly positionals?: boolean;
  run(values: Record<string, string | boolean | undefined>, positionals: readonly string[]): Promise<number>;
}

const host: ParseArgsOptionsConfig = {
  'run-dir': { type: 'string' },
  memory: { type: 'string' },
  pcpus: { type: 'string' },
  'xend-tcp': { type: 'string' },
  'xend-config': { type: 'string' },
  jit: { type: 'string' },
};
const optionHelp: Record<string, string> = {
  'run-dir': 'DIR   keep sockets, logs and state of the host in DIR (several hosts run side by side)',
  memory: `MIB   machine memory, default ${hostDefaults.memoryMiB}`,
  pcpus: `N     emulated physical CPUs, default one per core (${hostDefaults.pcpus} here)`,
  'xend-tcp': 'HOST:PORT   serve XML-RPC on TCP too',
  'xend-config': "FILE   xend's configuration, default xend-config.sxp in the run directory or /etc/xen",
  jit: 'off|on|force   which guest code is compiled, default on (force: all of it, at once)',
  foreground: 'stay in the foreground until SIGTERM or Ctrl-C',
  write: 'FILE   where the frames go, default BRIDGE.pcap or VIF.pcap; - is the standard output',
  count: 'COUNT  stop after so many frames',
  snaplen: 'SNAPLEN  bytes to keep of each frame',
  once: "boot, wait for the guest's prompt, shut everything down",
  dir: 'DIR   where to put the files, default guests/ in the current folder',
  kernel: 'cloud|amd64   which Debian kernel, default cloud',
  'no-modules': 'an initramfs without kernel modules',
};

const commands: readonly Command[] = [
  {
    name: 'up',
    usage: 'up [options]',
    summary: 'start a host: hypervisor, xenstored, xenconsoled, backends, xend',
    options: { ...host, foreground: { type: 'boolean' } },
    run: async (values) => (await import('./commands/up.ts')).up(values),
  },
  {
    name: 'down',
    usage: 'down [--run-dir DIR]',
    summary: 'stop the host',
    options: { 'run-dir': { type: 'string' } },
    run: async (values) => (await import('./commands/down.ts')).down(values),
  },
  {
    name: 'status',
    usage: 'status [--run-dir DIR]',
    summary: 'show the daemons of the host; exit code 0 when all are up, 3 when no host runs',
    options: { 'run-dir': { type: 'string' } },
    run: async (values) => (await import('./commands/status.ts')).status(values),
  },
  {
    name: 'metrics',
    usage: 'metrics [--run-dir DIR]',
    summary: "print the metrics of the host's daemons as OpenMetrics text",
    options: { 'run-dir': { type: 'string' } },
    run: async (values) => (await import('./commands/metrics.ts')).metrics(values),
  },
  {
    name: 'network',
    usage: 'network [--run-dir DIR]',
    summary: 'show bridges, their ports and the addresses behind them',
    options: { 'run-dir': { type: 'string' } },
    run: async (values) => (await import('./commands/network.ts')).network(values),
  },
  {
    name: 'capture',
    usage: 'capture BRIDGE|VIF [-w FILE|-] [-c COUNT] [-s SNAPLEN]',
    summary: 'write the frames of a bridge or a vif to a pcap file until Ctrl-C',
    options: {
      'run-dir': { type: 'string' },
      write: { type: 'string', short: 'w' },
      count: { type: 'string', short: 'c' },
      snaplen: { type: 'string', short: 's' },
    },
    positionals: true,
    run: async (values, positionals) => (await import('./commands/capture.ts')).capture(values, positionals),
  },
  {
    name: 'start',
    usage: 'start [options]',
    summary: 'start a host and the embedded guest, and attach its console',
    options: { ...host, once: { type: 'boolean' } },
    run: async (values) => (await import('./commands/start.ts')).start(values),
  },
  {
    name: 'fetch',
    usage: 'fetch [--dir DIR] [--kernel cloud|amd64] [--no-modules]',
    summary: "get Debian's kernel and busybox from Debian packages and make a guest of them",
    options: { dir: { type: 'string' }, kernel: { type: 'string' }, 'no-modules': { type: 'boolean' } },
    run: async (values) => (await import('./commands/fetch.ts')).fetch(values),
  },
];

export function help(): string {
  const lines = ['Usage: xenhost COMMAND [options]', ''];
  for (const command of commands) {
    lines.push(`  ${command.usage.padEnd(58)} ${command.summary}`);
    for (const option of Object.keys(command.options)) {
      const text = optionHelp[option];
      if (text !== undefined) lines.push(`      --${option} ${text}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Runs one command line; the result is the exit code. Errors are printed, never thrown. */
export async function runCommand(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(help());
    return name === undefined ? 1 : 0;
  }
  const command = commands.find((candidate) => candidate.name === name);
  if (!command) {
    process.stderr.write(`xenhost: no command '${name}'\n${help()}`);
    return 1;
  }
  try {
    const { values, positionals } = parseArgs({
      args: rest,
      options: command.options,
      allowPositionals: command.positionals ?? false,
    });
    return await command.run(values as Record<string, string | boolean | undefined>, positionals);
  } catch (error) {
    process.stderr.write(`xenhost ${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}
