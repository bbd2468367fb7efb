import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { domid, grantRef } from '@xenhost/base';
import { localPrivcmd } from './local.ts';
import { connectPrivcmd } from './remote.ts';
import { servePrivcmd } from './serve.ts';
import { privcmdCompliance } from './testing/compliance.ts';
import type { ComplianceWorld } from './testing/compliance.ts';
import { FakeBackend, fakeGrant } from './testing/fake.ts';

const GUEST = domid(7);

function fakeGuest(backend: FakeBackend): ComplianceWorld['guest'] {
  const guest = backend.addGuest(GUEST);
  guest.frames.set(100, new Uint8Array(4096));
  fakeGrant(guest, grantRef(8), 100);
  fakeGrant(guest, grantRef(9), 100, true);
  return {
    domid: GUEST,
    gfn: 100,
    gref: grantRef(8),
    readonlyGref: grantRef(9),
    offerPort: () => backend.guestOffer(GUEST),
    bind: (dom0Port) => backend.guestBind(GUEST, dom0Port),
    send: (port) => {
      backend.guestSend(GUEST, port);
    },
    received: (port) => guest.received.delete(port),
  };
}

privcmdCompliance('local', async () => {
  const backend = new FakeBackend();
  const local = localPrivcmd({}, backend);
  return Promise.resolve({
    open: () => Promise.resolve(local.open()),
    guest: fakeGuest(backend),
    close: () => Promise.resolve(),
  });
});

privcmdCompliance('remote', async () => {
  const backend = new FakeBackend();
  const dir = mkdtempSync(join(tmpdir(), 'xh-'));
  const server = await servePrivcmd({ path: join(dir, 'p.sock') }, backend);
  return {
    open: () => connectPrivcmd(server.path),
    guest: fakeGuest(backend),
    close: async () => {
      await server.close();
      rmSync(dir, { recursive: true });
    },
  };
});
