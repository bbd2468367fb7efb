/** The commands that pass their words to one method of xend and say nothing when it works. */
import { atomText, childValue } from '@xenhost/sxp';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { print } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxp } from './domain-rows.ts';
import { KIB, MIB, memoryIn, wholeNumber } from './numbers.ts';

/** The domain and what `rest` makes of the other words, to one method of either server. */
const passTo =
  (legacy: string, api: string, rest: (words: readonly string[]) => readonly XmlRpcValue[] = (words) => words): Run =>
  async (context, [dom = '', ...words]) => {
    const params = rest(words);
    if (context.api) await context.api.call(api, await context.api.vm(dom), ...params);
    else await context.server.call(legacy, dom, ...params);
    return undefined;
  };

export const destroy = passTo('xend.domain.destroy', 'VM.hard_shutdown');
export const delete_ = passTo('xend.domain.delete', 'VM.destroy');
export const suspend = passTo('xend.domain.suspend', 'VM.suspend');
export const reset = passTo('xend.domain.reset', 'VM.hard_reboot');
export const rename = passTo('xend.domain.setName', 'VM.set_name_label');
export const sysrq = passTo('xend.domain.send_sysrq', 'VM.send_sysrq');
export const trigger = passTo('xend.domain.send_trigger', 'VM.send_trigger', ([name = '', vcpu = '0']) => [
  name,
  wholeNumber(vcpu),
]);
export const usbAdd = passTo('xend.domain.usb_add', '');
export const usbDel = passTo('xend.domain.usb_del', '');

/** Pauses or not, and has xend remember that a person wanted it so. */
const pausing =
  (word: string, paused: boolean): Run =>
  async ({ server, api }, [dom = '']) => {
    if (api) {
      await api.call(`VM.${word}`, await api.vm(dom));
      return undefined;
    }
    await server.call(`xend.domain.${word}`, dom);
    await server.call('xend.domain.setpauseflag', dom, paused);
    return undefined;
  };

export const pause = pausing('pause', true);
export const unpause = pausing('unpause', false);

async function showField(
  { world, server, api }: CommandContext,
  dom: string,
  field: 'domid' | 'name',
): Promise<undefined> {
  if (api) {
    print(world, await api.text(field === 'domid' ? 'VM.get_domid' : 'VM.get_name_label', await api.vm(dom)));
    return;
  }
  const domain = asSxp(await server.call('xend.domain', dom));
  print(world, atomText(childValue(domain, field)) ?? 'None');
}

export const domid: Run = (context, [name = '']) => showField(context, name, 'domid');
export const domname: Run = (context, [id = '']) => showField(context, id, 'name');

export const memSet: Run = async ({ world, server, api }, [dom = '', memory = '']) => {
  const target = memoryIn(MIB, memory, world);
  if (!api) {
    await server.call('xend.domain.setMemoryTarget', dom, target);
    return undefined;
  }
  // As text: the Xen-API's numbers are, and bytes exceed an XML-RPC int.
  for (const bound of ['max', 'min']) {
    await api.call(`VM.set_memory_dynamic_${bound}_live`, await api.vm(dom), String(target * MIB));
  }
  return undefined;
};

export const memMax: Run = async ({ world, server, api }, [dom = '', memory = '']) => {
  if (api) {
    await api.call('VM.set_memory_static_max', await api.vm(dom), String(memoryIn(KIB, memory, world) * KIB));
  } else {
    await server.call('xend.domain.maxmem_set', dom, memoryIn(MIB, memory, world));
  }
  return undefined;
};
