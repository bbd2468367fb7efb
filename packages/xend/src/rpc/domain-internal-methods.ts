/**
 * Methods that Xen 4.4 served because every domain_* function was exported, though their arguments or results cannot
 * travel (facts, section 3). They answer as they did and do nothing.
 */
import { InvalidDomainError, PlainFault, XendError } from '../errors.ts';
import { DOM, INVALID_DOMAIN, XEND_ERROR, method, type Method } from './method.ts';

const unmarshallable = (): PlainFault => new PlainFault("cannot marshal <type 'instance'> objects");

export const domainInternalMethods: readonly Method[] = [
  method({
    name: 'xend.domain.lookup',
    doc: "xend's own look-up: its result cannot travel. Use xend.domain.",
    params: [DOM],
    returns: 'nil',
    faults: [INVALID_DOMAIN],
    async run({ manager }, dom) {
      await manager.refresh();
      if (!manager.find(dom)) throw new InvalidDomainError(dom);
      throw unmarshallable();
    },
  }),
  method({
    name: 'xend.domain.lookup_nr',
    doc: "xend's own look-up without a refresh: nil for an unknown domain; else its result cannot travel.",
    params: [DOM],
    returns: 'nil',
    run: ({ manager }, dom) => (manager.find(dom) ? Promise.reject(unmarshallable()) : Promise.resolve(null)),
  }),
  method({
    name: 'xend.domain.create_from_dict',
    doc: "xend's own way to restart a domain: its result cannot travel, so nothing is created. Use xend.domain.create.",
    params: [{ name: 'config', type: 'any' }],
    returns: 'nil',
    run: () => Promise.reject(unmarshallable()),
  }),
  method({
    name: 'xend.domain.delete_by_dominfo',
    doc: "xend's own way to delete a domain: its argument cannot travel. Use xend.domain.delete.",
    params: [{ name: 'dominfo', type: 'any' }],
    returns: 'nil',
    run: (_, given) => Promise.reject(new PlainFault(`'${pythonType(given)}' object has no attribute 'getName'`)),
  }),
  method({
    name: 'xend.domain.restore_fd',
    doc: "Restores from one of xend's own open files, which no caller has. Use xend.domain.restore.",
    params: [
      { name: 'fd', type: 'int' },
      { name: 'paused', type: 'bool', default: false },
      { name: 'relocating', type: 'bool', default: false },
    ],
    returns: 'array',
    faults: [XEND_ERROR],
    run: () => Promise.reject(new XendError('Restore failed')),
  }),
];

function pythonType(value: unknown): string {
  if (value === null) return 'NoneType';
  if (Array.isArray(value)) return 'list';
  const names: Readonly<Record<string, string>> = { string: 'str', number: 'int', boolean: 'bool' };
  return names[typeof value] ?? 'dict';
}
