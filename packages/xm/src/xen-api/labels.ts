/** Labels of machines, interfaces and resources over the Xen-API (Xen 4.4 `addlabel.py`, `getlabel.py`, `rmlabel.py`). */
import { pythonRepr } from '@xenhost/sxp';
import { securityError } from '../commands/words.ts';
import { XenApiFailure } from '../errors.ts';
import { wrongArguments } from '../getopt.ts';
import { print, type World } from '../world.ts';
import { failureText, type XenApi } from './session.ts';

/** What a label is of: a machine by its name, its interface of a number, anything by a text. */
export type Labelled =
  | { readonly kind: 'mgt'; readonly name: string }
  | { readonly kind: 'vif'; readonly name: string; readonly index: number }
  | { readonly kind: 'res'; readonly name: string };

const CLASSES = { mgt: 'VM', vif: 'VIF' } as const;

/** The machine or the interface; undefined for a resource, which has no reference. Throws OptionError. */
async function referenceOf(api: XenApi, of: Labelled): Promise<string | undefined> {
  if (of.kind === 'res') return undefined;
  const [vm, ...others] = await api.list('VM.get_by_name_label', of.name);
  if (of.kind === 'mgt') {
    if (vm === undefined) throw wrongArguments('A VM with that name does not exist.');
    if (others.length > 0) throw wrongArguments('There are multiple domains with the same name.');
    return vm;
  }
  if (vm === undefined) throw wrongArguments(`A VM with the name ${of.name} does not exist.`);
  const vif = (await api.list('VM.get_VIFs', vm))[of.index];
  if (vif === undefined) throw wrongArguments('Bad VIF index.');
  return vif;
}

const getter = (api: XenApi, of: Labelled, ref: string | undefined): Promise<string> =>
  of.kind === 'res'
    ? api.text('XSPolicy.get_resource_label', of.name)
    : api.text(`${CLASSES[of.kind]}.get_security_label`, ref ?? '');

const setter = (api: XenApi, of: Labelled, ref: string | undefined, label: string, old: string): Promise<unknown> =>
  of.kind === 'res'
    ? api.call('XSPolicy.set_resource_label', of.name, label, old)
    : api.call(`${CLASSES[of.kind]}.set_security_label`, ref ?? '', label, old);

/** Failures of the server stand behind a sentence of their own. */
async function orElse<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof XenApiFailure) throw securityError(`${what}: ${failureText(error)}`);
    throw error;
  }
}

/** Throws OptionError. */
export async function labelOf(api: XenApi, of: Labelled): Promise<string> {
  return getter(api, of, await referenceOf(api, of));
}

/** Throws OptionError, CommandFailed. */
export async function setLabel(api: XenApi, world: World, of: Labelled, label: string): Promise<void> {
  const ref = await referenceOf(api, of);
  const what = {
    mgt: 'Could not label the domain',
    vif: 'Could not label the VIF',
    res: 'Could not label this resource',
  };
  const old = await orElse(what[of.kind], getter(api, of, ref));
  if (of.kind === 'res' && old !== '') throw securityError(`'${of.name}' is already labeled with '${old}'`);
  try {
    await setter(api, of, ref, label, old);
  } catch (error) {
    if (!(error instanceof XenApiFailure)) throw error;
    if (of.kind !== 'vif') throw securityError(`${what[of.kind]}: ${failureText(error)}`);
    // Xen 4.4 says so, and ends well.
    print(world, `${what.vif}: ${failureText(error)}`);
  }
}

/** Throws OptionError, CommandFailed. */
export async function removeLabel(api: XenApi, world: World, of: Labelled): Promise<void> {
  const ref = await referenceOf(api, of);
  const [what, missing] = {
    mgt: ['Could not remove label from domain', 'Domain was not labeled.'],
    vif: ['Could not remove the label from the VIF', 'VIF is not labeled.'],
    res: ['Could not remove label from resource', 'Resource not labeled'],
  }[of.kind] as [string, string];
  const old = await orElse(what, getter(api, of, ref));
  if (old === '') throw securityError(`${what}: ${pythonRepr(missing)}`);
  await orElse(what, setter(api, of, ref, '', old));
  if (of.kind === 'vif') print(world, 'Successfully removed the label from the VIF.');
}
