/**
 * All of xm's commands in the order of its long help: dispatch, help, usage, completion and docs/XM.md come from here. The
 * names, arguments and options are Xen 4.4's (`tools/python/xen/xm/main.py`). Code is loaded only for the command that runs.
 */
import type { Command } from './command.ts';
import { deviceCommands } from './rows/device.ts';
import { domainCommands } from './rows/domain.ts';
import { hostCommands } from './rows/host.ts';
import { lastCommands, ownCommands } from './rows/last.ts';
import { policyCommands } from './rows/policy.ts';

export const commands: readonly Command[] = [
  ...domainCommands,
  ...hostCommands,
  ...deviceCommands,
  ...policyCommands,
  ...lastCommands,
  ...ownCommands,
];

/** Old names. */
export const aliases: Readonly<Record<string, string>> = {
  balloon: 'mem-set',
  'set-vcpus': 'vcpu-set',
  'vif-list': 'network-list',
  'vbd-list': 'block-list',
  'vbd-create': 'block-attach',
  'vbd-destroy': 'block-detach',
  ...Object.fromEntries(
    ['create', 'new', 'start', 'list', 'destroy', 'delete', 'cpu-add', 'cpu-remove', 'migrate'].map((name) => [
      `pool-${name}`,
      `cpupool-${name}`,
    ]),
  ),
};

/** `help` is not a command that runs: cli.ts answers it. The short help lists it here. */
export const HELP_ROW: Pick<Command, 'name' | 'args' | 'doc'> = { name: 'help', args: '', doc: 'Show this text.' };

/** The order of the short help. */
export const COMMON_ORDER = [
  'console', 'vncviewer', 'create', 'new', 'delete', 'destroy', 'dump-core', 'help', 'list', 'mem-set', 'migrate', 'pause',
  'reboot', 'reset', 'restore', 'resume', 'save', 'shell', 'shutdown', 'start', 'suspend', 'top', 'unpause', 'uptime',
  'usb-add', 'usb-del', 'domstate', 'vcpu-set',
]; // prettier-ignore
