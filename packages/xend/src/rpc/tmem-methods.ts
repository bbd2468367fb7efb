/** xend.node.tmem_*: transcendent memory. The hypervisor is asked each time; one without it refuses (Xen 4.4 `XendNode.py`). */
import { asPlainError } from '../domain/xc-error.ts';
import { method, type Method, type MethodContext, type Param } from './method.ts';

/** Sub-operations of `tmem.h`. */
const TMEMC = {
  thaw: 0, freeze: 1, flush: 2, destroy: 3, list: 4, setWeight: 5, setCap: 6, setCompress: 7, queryFreeableMb: 8,
} as const; // prettier-ignore
const TMEM_AUTH = 17;
/** Room for a list, as 4.4 asks. */
const LIST_BYTES = 32768;
const ALL_CLIENTS = -1;

const ID = { name: 'id', type: 'int' } as const;
const int = (name: string) => ({ name, type: 'int' }) as const;

function row(
  name: string,
  doc: string,
  params: readonly Param<'int'>[],
  control: (...args: readonly number[]) => readonly [number, number, number?, number?],
): Method {
  return method({
    name: `xend.node.tmem_${name}`,
    doc,
    params,
    returns: 'int',
    run: ({ manager }: MethodContext, ...args) => asPlainError(manager.ports.xc.tmemControl(...control(...args))),
  });
}

export const tmemMethods: readonly Method[] = [
  row('list', 'Statistics of transcendent memory.', [ID, int('use_long')], (id = 0, long = 0) => [
    TMEMC.list,
    id,
    LIST_BYTES,
    long,
  ]),
  row('thaw', 'Lets a client use transcendent memory again.', [ID], (id = 0) => [TMEMC.thaw, id]),
  row('freeze', 'Stops a client from using transcendent memory.', [ID], (id = 0) => [TMEMC.freeze, id]),
  row('flush', "Frees pages of a client's transcendent memory.", [ID, int('pages')], (id = 0, pages = 0) => [
    TMEMC.flush,
    id,
    pages,
  ]),
  row('destroy', "Frees a client's transcendent memory.", [ID], (id = 0) => [TMEMC.destroy, id]),
  row('set_weight', "Sets a client's weight.", [ID, int('weight')], (id = 0, value = 0) => [
    TMEMC.setWeight,
    id,
    value,
  ]),
  row('set_cap', "Sets a client's cap.", [ID, int('cap')], (id = 0, value = 0) => [TMEMC.setCap, id, value]),
  row('set_compress', "Sets whether a client's pages are compressed.", [ID, int('compress')], (id = 0, value = 0) => [
    TMEMC.setCompress,
    id,
    value,
  ]),
  row('query_freeable_mb', 'Memory that could be freed, MiB.', [], () => [TMEMC.queryFreeableMb, ALL_CLIENTS]),
  method({
    name: 'xend.node.tmem_shared_auth',
    doc: 'Allows or forbids a client a shared pool.',
    params: [ID, { name: 'uuid', type: 'string' }, int('auth')],
    returns: 'int',
    run: ({ manager }, id, _uuid, auth) => asPlainError(manager.ports.xc.tmemControl(TMEM_AUTH, id, auth)),
  }),
];
