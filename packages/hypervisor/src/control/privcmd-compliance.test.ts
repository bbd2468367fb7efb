import { domid, evtchnPort, grantRef, systemClock } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import { openXenctrl } from '@xenhost/libxenctrl';
import { localPrivcmd } from '@xenhost/privcmd';
import { privcmdCompliance } from '@xenhost/privcmd/testing';
import type { ComplianceWorld } from '@xenhost/privcmd/testing';
import { EVTCHN_PLACES, PAGE_SIZE } from '@xenhost/xen-abi';
import { bootMachine, Machine } from '../machine.ts';
import { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef } from '../state/refs.ts';
import { HypervisorBackend } from './privcmd-backend.ts';

const MEMORY_BYTES = 32 * 2 ** 20;
const GRANT_ENTRY = 8;
const PERMIT_ACCESS = 1;
const READ_ONLY = 4;

/** The whole control plane in this thread, with no pCPU: nothing runs, everything else is real. */
function bareHost(): { machine: Machine; open: () => ReturnType<ReturnType<typeof localPrivcmd>['open']> } {
  const memory = MachineMemory.allocate(MEMORY_BYTES);
  bootMachine({ memory, clock: systemClock, nrPcpus: 1 });
  const machine = new Machine(
    { memory, clock: systemClock, nrPcpus: 1, pcpu: undefined, commandLine: '' },
    {
      notifyControl: () => {
        setImmediate(() => {
          backend.drainEvents();
        });
      },
      reportBug: (error) => {
        throw error;
      },
    },
  );
  const backend = new HypervisorBackend(machine);
  machine.start();
  const local = localPrivcmd({}, backend);
  return { machine, open: () => local.open() };
}

async function makeWorld(): Promise<ComplianceWorld> {
  const { machine, open } = bareHost();
  const xc = openXenctrl(open());
  const guest = await xc.domainCreate({ uuid: '01020304-0506-0708-090a-0b0c0d0e0f10', maxVcpus: 1 });
  await xc.domainSetmaxmem(guest, 64);
  await xc.domainMaxVcpus(guest, 1);
  const [gfn = 0] = await xc.domainPopulatePhysmap(guest, Uint32Array.of(0));
  const [table = 0] = await xc.gnttabSetupTable(guest, 1);
  for (const [gref, flags] of [
    [8, PERMIT_ACCESS],
    [9, PERMIT_ACCESS | READ_ONLY],
  ] as const) {
    const entry = new DataView(new ArrayBuffer(GRANT_ENTRY));
    entry.setUint16(0, flags, true);
    entry.setUint32(4, gfn, true);
    await xc.writeFrame(guest, table, gref * GRANT_ENTRY, new Uint8Array(entry.buffer));
  }
  const asGuest = <T>(body: (domain: DomainRef) => T): T =>
    machine.core.lock.run(() => {
      const domain = machine.lifecycle.lookup(guest);
      if (!domain) throw new Error('the guest is gone');
      return body(domain);
    });
  const pendingBit = (domain: DomainRef, port: EvtchnPort): { at: number; bit: number } => ({
    at: domain.v.sharedInfoMfn * PAGE_SIZE + EVTCHN_PLACES[64].pending + (port >> 3),
    bit: 1 << (port & 7),
  });
  return {
    open: () => Promise.resolve(open()),
    guest: {
      domid: guest,
      gfn,
      gref: grantRef(8),
      readonlyGref: grantRef(9),
      offerPort: () => evtchnPort(asGuest((domain) => machine.events.allocUnbound(domain, domid(0)))),
      bind: (dom0Port) => {
        const port = asGuest((domain) => machine.events.bindInterdomain(domain, domid(0), dom0Port));
        return port > 0 ? evtchnPort(port) : undefined;
      },
      send: (port) => {
        asGuest((domain) => machine.events.send(domain, port));
      },
      received: (port) =>
        asGuest((domain) => {
          const { u8 } = machine.core.memory;
          const { at, bit } = pendingBit(domain, port);
          const was = ((u8[at] ?? 0) & bit) !== 0;
          u8[at] = (u8[at] ?? 0) & ~bit;
          return was;
        }),
    },
    close: async () => {
      await xc.domainDestroy(guest);
      await xc.close();
    },
  };
}

privcmdCompliance('the hypervisor', makeWorld);
