/** Answers that were measured with the C daemon of Xen 4.17.7 where one might think otherwise. */
import { Scene } from '../testing/script.ts';
import type { Step } from '../testing/script.ts';

const OK = 'OK|';

async function scene(): Promise<Scene> {
  const s = new Scene();
  for (const domid of [5, 6]) {
    s.run([
      ['0', 'MKDIR', `/local/domain/${domid}|`, OK],
      ['0', 'SET_PERMS', `/local/domain/${domid}|n${domid}|`, OK],
    ]);
    await s.introduce(domid);
  }
  return s;
}

const long = (n: number): string => 'x'.repeat(n);

const tables: Record<string, readonly Step[]> = {
  'special watches take any name, nodes only theirs': [
    ['0', 'WATCH', '@a b!|t|', OK, '! @a b!|t|'],
    ['0', 'WATCH', `@${long(2047)}|t|`, OK, `! @${long(2047)}|t|`],
    ['0', 'WATCH', `@${long(2048)}|t|`, 'EINVAL'],
    ['0', 'WATCH', '/a b|t|', 'EINVAL'],
    ['0', 'WATCH', '|t|', 'EINVAL'],
    ['0', 'UNWATCH', '|t|', 'ENOENT'],
    ['0', 'UNWATCH', '/a/../b|t|', 'ENOENT'],
    ['0', 'UNWATCH', '@a b!|t|', OK],
  ],
  'a watch has two strings, no depth; what follows the last NUL does not count': [
    ['0', 'WATCH', '/a|t|3|', 'EINVAL'],
    ['0', 'WATCH', '/a|t|x', OK, '! /a|t|'],
    ['0', 'WATCH', '/a|t|', 'EEXIST'],
    ['0', 'UNWATCH', '/a|t|3|', 'EINVAL'],
    ['0', 'UNWATCH', '/a|t|x', OK],
    ['0', 'WATCH', '/a||', OK, '! /a||'],
  ],
  'rights are numbers as strtol reads them': [
    ['0', 'WRITE', '/s|1', OK],
    ['0', 'SET_PERMS', '/s|n0|r5|r70000|r-1|r0x10|r010|b+6|', OK],
    ['0', 'GET_PERMS', '/s|', 'n0|r5|r70000|r-1|r16|r8|b6|'],
    ['5', 'READ', '/s|', '1'],
    ['0', 'SET_PERMS', '/s|n0|r 6|', OK],
    ['0', 'GET_PERMS', '/s|', 'n0|r6|'],
    ['0', 'SET_PERMS', '/s|n70000|', 'ENOENT'],
    ['0', 'SET_PERMS', '/s|n32752|', 'ENOENT'],
    ['0', 'SET_PERMS', '/s|n0|r|', 'EINVAL'],
    ['0', 'SET_PERMS', '/s|n0|r5x|', 'EINVAL'],
    ['0', 'SET_PERMS', '/s|n0|5|', 'EINVAL'],
    ['0', 'SET_PERMS', '/s|n0|r5', OK],
    ['0', 'GET_PERMS', '/s|', 'n0|'],
    ['0', 'SET_PERMS', '/s|n99999999999999999999|', 'ENOENT'],
    ['0', 'SET_PERMS', '/none|n70000|', 'ENOENT'],
  ],
  'rights of special watches belong to their owner': [
    ['0', 'GET_PERMS', '@releaseDomain|', 'EINVAL'],
    ['0', 'SET_PERMS', '@other|n0|', 'EINVAL'],
    ['5', 'SET_PERMS', '@releaseDomain|n5|', 'EACCES'],
    ['0', 'SET_PERMS', '@releaseDomain|n5|', OK],
    ['5', 'SET_PERMS', '@releaseDomain|n5|r6|', OK],
    ['6', 'SET_PERMS', '@releaseDomain|n6|', 'EACCES'],
  ],
  'numbers of domains are unsigned, cut as atoi cuts them': [
    ['0', 'GET_DOMAIN_PATH', '-1|', '/local/domain/4294967295|'],
    ['0', 'GET_DOMAIN_PATH', '99999999999999999999|', '/local/domain/4294967295|'],
    ['0', 'GET_DOMAIN_PATH', '-99999999999999999999|', '/local/domain/0|'],
    ['0', 'GET_DOMAIN_PATH', '4294967301|', '/local/domain/5|'],
    ['0', 'GET_DOMAIN_PATH', ' 7x|', '/local/domain/7|'],
    ['0', 'GET_DOMAIN_PATH', 'x|', '/local/domain/0|'],
    ['0', 'GET_DOMAIN_PATH', '1', 'EINVAL'],
    ['0', 'IS_DOMAIN_INTRODUCED', '0|', 'T|'],
    ['0', 'IS_DOMAIN_INTRODUCED', '32752|', 'T|'],
    ['0', 'IS_DOMAIN_INTRODUCED', '7|', 'F|'],
    ['0', 'SET_TARGET', '5|0|', OK],
    ['0', 'SET_TARGET', '0|5|', OK],
    ['0', 'SET_TARGET', '5|7|', 'ENOENT'],
    ['0', 'SET_TARGET', '7|5|', 'ENOENT'],
    ['0', 'SET_TARGET', '5|', 'EINVAL'],
    ['0', 'RESUME', '0|', 'EINVAL'],
    ['0', 'RESUME', '7|', 'ENOENT'],
    ['0', 'RESUME', '5|', OK],
    ['0', 'RELEASE', '7|', 'ENOENT'],
    ['0', 'RELEASE', 'x|', 'EINVAL'],
  ],
  'a target of Domain-0 gives the rights of what it owns': [
    ['0', 'WRITE', '/d0|1', OK],
    ['5', 'READ', '/d0|', 'EACCES'],
    ['0', 'SET_TARGET', '5|0|', OK],
    ['5', 'WRITE', '/d0|2', OK],
    ['5', 'CONTROL', 'check|', 'EACCES'],
  ],
  'what a guest may not see is EACCES, whether it is there or not': [
    ['0', 'WRITE', '/p/q/r|1', OK],
    ['0', 'SET_PERMS', '/p|n0|r5|', OK],
    ['0', 'SET_PERMS', '/p/q|n0|', OK],
    ['5', 'READ', '/p/q|', 'EACCES'],
    ['5', 'READ', '/p/q/r|', 'EACCES'],
    ['5', 'READ', '/p/q/none|', 'EACCES'],
    ['5', 'READ', '/p/none|', 'ENOENT'],
    ['5', 'WRITE', '/p/none|x', 'EACCES'],
    ['5', 'RM', '/p/none|', 'EACCES'],
    ['5', 'RM', '/none/none|', 'EACCES'],
    ['5', 'DIRECTORY', '/p|', 'q|'],
    ['0', 'RM', '/none/none|', 'ENOENT'],
    ['0', 'RM', '/none|', OK],
  ],
  'paths behind the directory of a domain may be longer': [
    ['0', 'READ', `/${long(2047)}|`, 'ENOENT'],
    ['0', 'READ', `/${long(2048)}|`, 'EINVAL'],
    ['0', 'READ', `/local/domain/5/${long(2048)}|`, 'ENOENT'],
    ['0', 'READ', `/local/domain/5/${long(2049)}|`, 'EINVAL'],
    ['0', 'READ', `/local/domain/-5/${long(2048)}|`, 'ENOENT'],
    ['0', 'READ', `/local/domain/123456/${long(2041)}|`, 'EINVAL'],
  ],
  'a watcher who may not read a node hears of it when it may read the parent, or could read it before': [
    ['0', 'WRITE', '/p/q|1', OK],
    ['0', 'SET_PERMS', '/p|n0|r5|', OK],
    ['0', 'SET_PERMS', '/p/q|n0|', OK],
    ['0', 'WRITE', '/p/q/deep|1', OK],
    ['5', 'WATCH', '/p|t|', OK, '! /p|t|'],
    ['0', 'WRITE', '/p/q|2', OK],
    ['5', 'READ', '/p|', '! /p/q|t|', ''],
    ['0', 'WRITE', '/p/q/deep|2', OK],
    ['5', 'READ', '/p|', ''],
    ['0', 'SET_PERMS', '/p|n0|', OK],
    ['5', 'READ', '/p|', '! /p|t|', 'EACCES'],
    ['0', 'WRITE', '/p/q|3', OK],
    ['5', 'READ', '/p|', 'EACCES'],
  ],
  'replies over 4 KiB are E2BIG': [
    ['0', 'WRITE', `/v|${long(4092)}`, OK],
    ['0', 'READ', '/v|', long(4092)],
    ['0', 'SET_PERMS', `/v|${'n0|'.repeat(1364)}`, OK],
    ['0', 'GET_PERMS', '/v|', 'n0|'.repeat(1364)],
  ],
  'a privileged operation needs its transaction, and a guest is refused before': [
    ['0:9', 'CONTROL', 'check|', 'ENOENT'],
    ['5:9', 'CONTROL', 'check|', 'EACCES'],
    ['0:9', 'WATCH', '/a|t|', OK, '! /a|t|'],
    ['0:9', 23, '', 'ENOSYS'],
  ],
};

test.each(Object.entries(tables))('%s', async (_name, steps) => {
  const s = await scene();
  s.run(steps);
  s.run([['0', 'CONTROL', 'check|', OK]]);
});

describe('introductions', () => {
  const turn = (): Promise<void> => new Promise(setImmediate);

  test('two of one domain at once are one after the other, and it is told once', async () => {
    const s = new Scene();
    s.run([['0', 'WATCH', '@introduceDomain|i|', OK, '! @introduceDomain|i|']]);
    s.send('00', 'INTRODUCE', '9|1|4|');
    s.send('000', 'INTRODUCE', '9|2|5|');
    await turn();
    expect([s.received('00'), s.received('000')]).toEqual([[OK], [OK]]);
    expect(s.received('0')).toEqual(['! @introduceDomain|i|']);
    expect(s.core.domains.get(9)).toMatchObject({ mfn: '2', port: 5 });
    expect(s.core.quiescent).toBe(true);
  });

  test('a second one resets the session', async () => {
    const s = await scene();
    s.run([
      ['5', 'WATCH', 'a|t|', OK, '! a|t|'],
      ['5', 'TRANSACTION_START', '|', '1|'],
    ]);
    s.core.ignore(s.connection('5'));
    expect(s.core.mayRead(s.connection('5'))).toBe(false);
    s.send('0', 'INTRODUCE', '5|1|1|');
    await turn();
    s.run([
      ['0', 'WRITE', '/local/domain/5/a|1', OK, OK],
      ['5:1', 'READ', 'a|', 'ENOENT'],
      ['5', 'READ', 'a|', '1'],
      ['0', 'CONTROL', 'check|', OK],
    ]);
    expect(s.core.mayRead(s.connection('5'))).toBe(true);
  });

  test('one that fails leaves nothing behind, with the error of the hypervisor', async () => {
    const s = new Scene();
    for (const [code, expected] of [
      ['ENOENT', 'ENOENT'],
      ['ESRCH', 'EINVAL'],
    ]) {
      s.introduceError = Object.assign(new Error('no'), { code });
      s.send('0', 'INTRODUCE', '9|1|1|');
      await turn();
      expect(s.received('0')).toEqual([expected]);
    }
    s.run([
      ['0', 'IS_DOMAIN_INTRODUCED', '9|', 'F|'],
      ['0', 'CONTROL', 'check|', OK],
    ]);
    expect(s.core.connections.size).toBe(1);
  });

  test('a domain released while its ring is connected anew is gone', async () => {
    const s = await scene();
    let connected: () => void = () => undefined;
    s.introduceAfter = new Promise((resolve) => {
      connected = resolve;
    });
    s.send('00', 'INTRODUCE', '5|1|1|');
    await turn();
    s.run([['0', 'RELEASE', '5|', OK]]);
    connected();
    await turn();
    expect(s.received('00')).toEqual(['ENOENT']);
    s.run([
      ['0', 'IS_DOMAIN_INTRODUCED', '5|', 'F|'],
      ['0', 'CONTROL', 'check|', OK],
    ]);
    expect(s.released).toEqual([5, 5]);
  });

  test('who asked may be gone when it is done', async () => {
    const s = await scene();
    s.send('00', 'INTRODUCE', '9|1|1|');
    s.core.disconnect(s.connection('00'));
    await turn();
    s.run([
      ['0', 'IS_DOMAIN_INTRODUCED', '9|', 'T|'],
      ['0', 'CONTROL', 'check|', OK],
    ]);
  });
});
