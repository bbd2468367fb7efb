/**
 * xm vnet-*: Xen 4.4's xm calls methods that its xend does not have, and shows for vnet-list the two names in the answer.
 * xm network-*: networks of the Xen-API.
 */
import { accessSync, constants } from 'node:fs';
import { resolve } from 'node:path';
import { prettySxp, type Sxp } from '@xenhost/sxp';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { InvalidArgument } from '../errors.ts';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print } from '../world.ts';
import { isStruct, listOf, numberOf, structOf, sxpOf, textOf } from '../xen-api/values.ts';
import type { CommandContext, Run } from './command.ts';
import { printJson } from './domain-rows.ts';

/** What Python's loop over an answer gives: elements of a list, names of a struct. */
function itemsOf(value: XmlRpcValue): string[] {
  if (isStruct(value)) return Object.keys(value).sort((a, b) => (a < b ? 1 : -1));
  return listOf(value).map(textOf);
}

/** A struct is a dict to xm, and that a text. */
async function shownAs(value: XmlRpcValue): Promise<Sxp> {
  if (!isStruct(value)) return sxpOf(value);
  return (await import('../xen-api/python-pairs.ts')).pythonText(value);
}

export const vnetList: Run = async (context, args) => {
  const { world, server } = context;
  const { options, words } = getopt(args, [{ name: 'long', short: 'l', long: 'long' }]);
  const long = options.length > 0 || words.length > 0;
  const names = words.length > 0 ? words : itemsOf(await server.callRaw('xend_vnets'));
  if (context.json) return printJson(context, names);
  for (const name of names) {
    if (!long) print(world, name);
    else print(world, prettySxp(await shownAs(await server.callRaw('xend_vnet', name))));
  }
  return undefined;
};

export const vnetCreate: Run = async ({ world, server }, [file = '']) => {
  try {
    accessSync(resolve(world.cwd, file), constants.R_OK);
  } catch {
    print(world, `File not found: ${file}`);
    return 1;
  }
  await server.callRaw('xend_vnet_create', file);
  return undefined;
};

export const vnetDelete: Run = async ({ server }, [vnet = '']) => {
  await server.callRaw('xend_vnet_delete', vnet);
  return undefined;
};

export const networkNew: Run = async ({ api }, [name = '']) => {
  await api?.call('network.create', {
    name_label: name,
    name_description: '',
    other_config: {},
    default_gateway: '',
    default_netmask: '',
  });
  return undefined;
};

export const networkDel: Run = async ({ api }, [name = '']) => {
  const networks = (await api?.records('network.get_all_records')) ?? [];
  const found = networks.find(([, record]) => record['name_label'] === name);
  if (!found) throw new InvalidArgument();
  await api?.call('network.destroy', found[0]);
  return undefined;
};

export const networkShow: Run = async (context) => {
  const rows = await networkRows(context);
  if (context.json) return printJson(context, rows);
  print(context.world, format('%-20s %-40s %-10s', 'Name', 'VIFs', 'PIFs'));
  for (const { name, vifs, pifs } of rows) {
    for (let i = 0; i < Math.max(1, vifs.length, pifs.length); i += 1) {
      print(context.world, format('%-20s %-40s %-10s', i === 0 ? name : '', vifs[i] ?? '', pifs[i] ?? ''));
    }
  }
  return undefined;
};

interface NetworkRow {
  readonly name: string;
  readonly vifs: readonly string[];
  readonly pifs: readonly string[];
}

async function networkRows({ api }: CommandContext): Promise<NetworkRow[]> {
  if (!api) return [];
  const networks = await api.records('network.get_all_records');
  const [pifs, vifs, vms] = [
    await api.record('PIF.get_all_records'),
    await api.record('VIF.get_all_records'),
    await api.record('VM.get_all_records'),
  ];
  const vifName = (vif: XmlRpcStruct): string =>
    `${textOf(structOf(vms[textOf(vif['VM'])])['name_label'])}.${textOf(vif['device'])}`;
  const pifName = (pif: XmlRpcStruct): string =>
    numberOf(pif['VLAN']) > -1 ? `${textOf(pif['device'])}.${textOf(pif['VLAN'])}` : textOf(pif['device']);
  const known = (refs: XmlRpcValue | undefined, records: XmlRpcStruct): XmlRpcStruct[] =>
    listOf(refs).flatMap((ref) => {
      const record = records[textOf(ref)];
      return isStruct(record) ? [record] : [];
    });
  return networks.map(([, network]) => ({
    name: textOf(network['name_label']),
    vifs: known(network['VIFs'], vifs).map(vifName),
    pifs: known(network['PIFs'], pifs).map(pifName),
  }));
}

export const eventMonitor: Run = async ({ world, api }, args) => {
  if (!api) {
    world.err('Error: Event monitoring not supported unless using Xen-API.\n');
    return undefined;
  }
  for (;;) {
    await api.call('event.register', [...args]);
    for (const event of listOf(await api.call('event.next'))) print(world, JSON.stringify(event));
  }
};
