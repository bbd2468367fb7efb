/**
 * xm labels, setpolicy and the other commands of the security modules but for labels.ts, on a host whose hypervisor has none: xend's dummy
 * module answers with empty values (Xen 4.4 `labels.py`, `addlabel.py`, …). Labels in configuration files are text and work.
 */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { atomText, childOf, childValue, childrenOf, type Sxp } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import { wrongArguments } from '../getopt.ts';
import { print } from '../world.ts';
import { isStruct, listOf, numberOf, textOf } from '../xen-api/values.ts';
import type { CommandContext, Run } from './command.ts';
import { CONFIG_FOLDER, securityError } from './words.ts';

function noArguments(args: readonly string[], text = 'No arguments expected.'): void {
  if (args.length > 0) throw wrongArguments(text);
}

export const labels: Run = async ({ world, server, api }, args) => {
  let policy: string | null = null;
  let type: string | null = null;
  for (const arg of args) {
    const [key = '', value, ...more] = arg.split('=');
    if (value !== undefined && key === 'type' && more.length === 0) {
      if (type !== null) throw wrongArguments('type is definied twice');
      type = value.toLowerCase();
    } else if (value === undefined) {
      if (policy !== null) throw wrongArguments('policy is defined twice');
      policy = arg;
    } else {
      throw wrongArguments(`Unrecognised option: ${arg}`);
    }
  }
  if (api) throw securityError('No policy installed on the system.');
  const found = listOf(await server.call('xend.security.list_labels', policy, type)).map(textOf);
  for (const label of found.sort()) print(world, label);
  return undefined;
};

export const resources: Run = async ({ world, server, api }, args) => {
  noArguments(args, 'No arguments required');
  const found = await (api
    ? api.call('XSPolicy.get_labeled_resources')
    : server.call('xend.security.get_labeled_resources'));
  if (!isStruct(found)) return undefined;
  for (const [resource, value] of Object.entries(found)) {
    const parts = typeof value === 'string' ? value.split(':') : listOf(value).map(textOf);
    const [type, policy, label] = parts.length === 2 ? ['ACM', ...parts] : parts;
    for (const line of [
      resource,
      `      type: ${type ?? ''}`,
      `    policy: ${policy ?? ''}`,
      `    label:  ${label ?? ''}`,
    ]) {
      print(world, line);
    }
  }
  return undefined;
};

export const dumpPolicy: Run = async ({ api }, args) => {
  noArguments(args);
  // The dummy module of Xen 4.4 has nothing to dump; the Xen-API was asked for a policy, and there is none.
  if (api) throw new CommandFailed(`"An error occurred getting the running policy: 'No policy is installed.'"`);
  return Promise.resolve(undefined);
};

/** The bit of the only module that xend's policies were for. */
const ACM = 1;

async function moduleType({ server, api }: CommandContext): Promise<number> {
  return numberOf(await (api ? api.call('XSPolicy.get_xstype') : server.call('xend.security.get_xstype')));
}

export const getPolicy: Run = async (context) => {
  const type = await moduleType(context);
  const rest = type & ~ACM;
  const kinds = [
    ...(type & ACM ? ['ACM'] : []),
    ...(rest ? [`unsupported (${rest.toString(16).padStart(8, '0')})`] : []),
  ];
  print(context.world, `Supported security subsystems   : ${kinds.join(', ') || 'None'} \n`);
  print(context.world, 'No policy is installed.');
  return undefined;
};

export const resetPolicy: Run = async (context, args) => {
  noArguments(args);
  if ((await moduleType(context)) & ACM) await context.server.call('xend.security.reset_policy');
  throw securityError('ACM policy type not supported.');
};

export const setPolicy: Run = async ({ world }, args) => {
  const [type, name] = args;
  if (type === undefined || name === undefined) throw wrongArguments('Need at least 3 arguments.');
  const kind = type.toUpperCase();
  if (kind !== 'ACM' && kind !== 'FLASK') throw wrongArguments(`Unsupported policytype '${type}'.`);
  const file =
    kind === 'FLASK'
      ? name
      : ['.', join(CONFIG_FOLDER, 'acm-security/policies')]
          .map((folder) => `${folder}/${name.split('.').join('/')}-security_policy.xml`)
          .find((path, i) => i === 1 || existsSync(resolve(world.cwd, path)));
  try {
    readFileSync(resolve(world.cwd, file ?? name));
  } catch {
    throw wrongArguments(`Could not read policy file: ${file ?? name}`);
  }
  return Promise.reject(securityError('Policy type not supported.'));
};

/** The Flask module is not there: every question about its mode ends so. */
const noFlask = (): Error => wrongArguments('Unsupported policy type');

export const getEnforce: Run = async (_context, args) => {
  noArguments(args);
  return Promise.reject(noFlask());
};

export const setEnforce: Run = async (_context, args) => {
  const [mode = ''] = args;
  if (args.length !== 1) throw wrongArguments('Invalid arguments');
  if (!/^(?:[01]|enforcing|permissive)$/i.test(mode)) throw wrongArguments(`${mode} is an unsupported mode`);
  return Promise.reject(noFlask());
};

export const dryRun: Run = async ({ world }, args) => {
  const [file = ''] = args;
  if (args.length !== 1) throw wrongArguments('Invalid number of arguments');
  const { configOf } = await import('../create/create.ts');
  const config = await configOf(world, [file]);
  const label = atomText(childValue(childOf(childOf(config, 'security')?.[1], 'access_control'), 'label'));
  const name = atomText(childValue(config, 'name')) ?? basename(file);
  print(world, 'Checking domain:');
  print(world, `   ${name}: ${label === undefined ? 'PERMITTED' : 'DENIED'}`);
  if (label !== undefined) print(world, '   --> Security off, but domain labeled');
  if (label !== undefined) {
    print(world, 'Checking resources: (skipped)');
    print(world, 'Dry Run: FAILED');
    return 255;
  }
  print(world, 'Checking resources:');
  for (const uname of diskNames(config)) print(world, `   ${uname}: PERMITTED`);
  print(world, 'Dry Run: PASSED');
  return undefined;
};

const diskNames = (config: Sxp): string[] =>
  childrenOf(config, 'device').flatMap((device) => {
    const uname = atomText(childValue(childOf(device, 'vbd'), 'uname'));
    return uname === undefined ? [] : [uname];
  });
