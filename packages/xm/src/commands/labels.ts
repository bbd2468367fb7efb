/** xm addlabel, getlabel, rmlabel, on a host whose hypervisor has no security module (Xen 4.4 `addlabel.py` and its like). */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { wrongArguments } from '../getopt.ts';
import { print, type World } from '../world.ts';
import { listOf, textOf } from '../xen-api/values.ts';
import type { Labelled } from '../xen-api/labels.ts';
import type { CommandContext, Run } from './command.ts';
import { asText } from './domain-rows.ts';
import { CONFIG_FOLDER, securityError } from './words.ts';

/** What a label is put on: `dom FILE`, `mgt DOMAIN`, `res RESOURCE`, `vif-N DOMAIN`. */
type Target = Labelled | { readonly kind: 'dom'; readonly name: string };

function targetOf(word: string, name: string, unknown: string): Target {
  const lower = word.toLowerCase();
  if (lower === 'dom' || lower === 'mgt' || lower === 'res') return { kind: lower, name };
  if (!lower.startsWith('vif-')) throw wrongArguments(unknown);
  const index = lower.slice('vif-'.length);
  if (!/^\d{1,9}$/.test(index)) throw wrongArguments('Bad VIF device index.');
  return { kind: 'vif', name, index: Number(index) };
}

const viaApi = () => import('../xen-api/labels.ts');

/** A configuration file as given, else in /etc/xen. Throws OptionError. */
function configFile(world: World, name: string): string {
  const places = name.startsWith('/') ? [name] : [resolve(world.cwd, name), join(CONFIG_FOLDER, name)];
  const found = places.find((path) => existsSync(path) && statSync(path).isFile());
  if (found === undefined) throw wrongArguments(`Configuration file '${name}' not found.`);
  return found;
}

const OF_A_MACHINE: readonly string[] = ['kernel', 'bootloader', 'memory', 'name'];

/** A file that says enough to be a machine's. Throws OptionError. */
async function machineFile(world: World, name: string): Promise<string> {
  const path = configFile(world, name);
  const { namesSetBy } = await import('../create/settings.ts');
  const names = await namesSetBy(path, world);
  // With either of two ways to boot.
  if (OF_A_MACHINE.filter((word) => names.has(word)).length >= OF_A_MACHINE.length - 1) return path;
  print(world, 'Invalid configuration file.');
  throw wrongArguments('Invalid config file');
}

const LABEL_START = /^access_control\s*=/i;
const LABEL_END = /'\]/;

/** The lines of a file that set access_control. */
function labelLines(lines: readonly string[]): Set<number> {
  const found = new Set<number>();
  let inside = false;
  for (const [i, line] of lines.entries()) {
    if (LABEL_START.test(line)) inside = true;
    if (inside) found.add(i);
    if (inside && LABEL_END.test(line)) inside = false;
  }
  return found;
}

export const getLabel: Run = async (context, args) => {
  const [kind = '', name = ''] = args;
  const { world, server, api } = context;
  if (args.length !== 2) throw wrongArguments('Requires 2 arguments');
  const target = targetOf(kind, name, 'First subcommand argument must be "dom", "mgt" or "res"');
  if (api && (target.kind === 'mgt' || target.kind === 'vif')) {
    print(world, await (await viaApi()).labelOf(api, target));
    return undefined;
  }
  switch (target.kind) {
    case 'dom': {
      const lines = readFileSync(configFile(world, name), 'utf8').split('\n');
      const text = [...labelLines(lines)].map((i) => lines[i] ?? '').join('\n');
      if (text === '') throw securityError('Domain not labeled');
      const value = text.slice(text.indexOf('=') + 1).trim();
      print(world, `policytype=ACM,${value.replace(/^[['\]]+/, '').replace(/[['\]]+$/, '')}`);
      return undefined;
    }
    case 'mgt': {
      const label = asText(await server.call('xend.security.get_domain_label', name));
      print(world, label.replace(/^'/, ''));
      return undefined;
    }
    case 'res': {
      const label = await resourceLabel(context, name);
      if (label === '') throw securityError('Resource not labeled');
      print(world, label);
      return undefined;
    }
    case 'vif':
      throw wrongArguments('xm needs to be configure to use the xen-api.');
  }
};

async function resourceLabel({ server, api }: CommandContext, resource: string): Promise<string> {
  if (api) return api.text('XSPolicy.get_resource_label', resource);
  const found: XmlRpcValue = await server.call('xend.security.get_resource_label', resource);
  const parts = typeof found === 'string' ? [found] : listOf(found).map(textOf);
  return parts.every((part) => part === '') ? '' : parts.join(':');
}

export const addLabel: Run = async (context, args) => {
  const [label = '', kind = '', name = '', policy] = args;
  const { world, server, api } = context;
  if (args.length !== 3 && args.length !== 4) throw wrongArguments('Needs either 2 or 3 arguments');
  if (policy === undefined) {
    throw wrongArguments('ACM security is not enabled. You must specify the policy on the command line.');
  }
  const target = targetOf(kind, name, 'Need to specify either "dom", "mgt" or "res" as object to add label to.');
  if (target.kind === 'dom') {
    const path = await machineFile(world, name);
    const text = readFileSync(path, 'utf8');
    if (text.split('\n').some((line) => LABEL_START.test(line))) {
      throw securityError(`Config file '${name}' is already labeled.`);
    }
    writeFileSync(path, `${text}access_control = ['policy=${policy},label=${label}']\n`);
    return undefined;
  }
  const [type = '', reference, ...more] = policy.split(':');
  if (more.length > 0 || (target.kind !== 'res' && reference === undefined)) {
    throw wrongArguments('Policy name in wrong format.');
  }
  const [kindOf, ref] = reference === undefined ? ['ACM', type] : [type, reference];
  if (api) {
    await (await viaApi()).setLabel(api, world, target, `${kindOf}:${ref}:${label}`);
    return undefined;
  }
  if (target.kind === 'vif') throw wrongArguments('Need to be configure for using xen-api.');
  if (target.kind === 'res') {
    const old = await resourceLabel(context, name);
    if (old !== '') throw securityError(`'${name}' is already labeled with '${old}'.`);
    await server.call('xend.security.set_resource_label', name, kindOf, ref, label);
    throw securityError('An error occurred labeling the resource: Policy type not supported.');
  }
  const old = asText(await server.call('xend.security.get_domain_label', name)).replace(/^'/, '');
  await server.call('xend.security.set_domain_label', name, `${type}:${ref}:${label}`, old);
  throw securityError('An error occurred relabeling the domain: Policy type not supported.');
};

export const rmLabel: Run = async (context, args) => {
  const [kind = '', name = ''] = args;
  const { world, server, api } = context;
  if (args.length !== 2) throw wrongArguments('Requires 2 arguments');
  const target = targetOf(kind, name, `Unrecognised type argument: ${kind}`);
  if (api && target.kind !== 'dom') {
    await (await viaApi()).removeLabel(api, world, target);
    return undefined;
  }
  switch (target.kind) {
    case 'dom': {
      const path = configFile(world, name);
      const lines = readFileSync(path, 'utf8').split('\n');
      const found = labelLines(lines);
      if (found.size === 0) throw securityError('Domain not labeled');
      writeFileSync(path, lines.map((line, i) => (found.has(i) ? `#${line}` : line)).join('\n'));
      return undefined;
    }
    case 'mgt': {
      const old = asText(await server.call('xend.security.get_domain_label', name));
      if (old === '') throw securityError('Domain was not labeled.');
      await server.call('xend.security.set_domain_label', name, '', old);
      print(world, `Successfully removed label from domain ${name}.`);
      return undefined;
    }
    case 'res':
      if ((await resourceLabel(context, name)) === '') throw securityError('Resource not labeled');
      await server.call('xend.security.set_resource_label', name, '', '', '');
      return undefined;
    case 'vif':
      throw wrongArguments('Need to be configure for using xen-api.');
  }
};
