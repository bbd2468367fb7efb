/** A host whose Xen-API asks PAM, to be started apart: says `{ port, socket, pid, log }` in a line, and stops when its input ends. */
import { once } from 'node:events';
import { freePort, TestHost } from '@xenhost/testkit';

const port = await freePort();
const xendConfig = `(xen-api-server ((localhost:${port} pam '^localhost$ ^127 ^::1$')))\n(xend-unix-xmlrpc-server yes)\n`;
const host = await TestHost.start({ memoryMiB: 128, pcpus: 1, xendConfig });
const { xendXmlrpc: socket, log } = host.host.paths;
process.stdout.write(`${JSON.stringify({ port, socket, pid: host.pidOf('xend'), log })}\n`);
process.stdin.resume();
await once(process.stdin, 'end');
await host.stop();
