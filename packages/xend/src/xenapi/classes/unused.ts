/** VM_guest_metrics, VTPM, crashdump: classes of the Xen-API's specification that Xen 4.4 never filled, for clients that list all. */
import { emptyClass } from '../table.ts';

export const unused = [
  emptyClass({
    name: 'VM_guest_metrics',
    doc: 'What a guest says of itself: no agent here tells.',
    original: false,
    fields: [
      ['os_version', 'map'],
      ['PV_drivers_version', 'map'],
      ['memory', 'map'],
      ['disks', 'map'],
      ['networks', 'map'],
      ['other', 'map'],
      ['last_updated', 'datetime'],
    ],
  }),
  emptyClass({
    name: 'VTPM',
    doc: 'A virtual TPM of a machine.',
    original: false,
    fields: [
      ['VM', 'ref'],
      ['backend', 'ref'],
    ],
  }),
  emptyClass({
    name: 'crashdump',
    doc: 'A core dump as a disk: xend writes them to files.',
    original: false,
    fields: [
      ['VM', 'ref'],
      ['VDI', 'ref'],
    ],
  }),
];
