import { DomBuildError } from '../errors.ts';
import { bzImagePayload, compressionOf } from './bzimage.ts';
import { unpackKernel, workerEntry } from './index.ts';
import { unlz4 } from './lz4.ts';
import { slowUnpack } from './slow.ts';

/** Opcodes of CALL and JMP among sign bytes: what the branch filter finds hardest. */
function branchy(length: number): Uint8Array {
  const alphabet = [0xe8, 0xe9, 0, 0xff, 0xe8, 0, 0xff, -1, 0x90, 0, 0xe9];
  let x = 1234567;
  return Uint8Array.from({ length }, () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    const byte = alphabet[x % 11] ?? 0;
    return byte < 0 ? (x >>> 8) & 255 : byte;
  });
}

/** `branchy(500)` as xz and lz4 pack it: `xz --check=crc32 [--x86] --lzma2=dict=64KiB`, in blocks of 200, `lz4 -l -9`. */
const packed = {
  x86: '/Td6WFoAAAFpIt42AgEEACEBCADSuXTL4AHzAYNdAHRj+ADmRF5TAfHEUwuYcg2LAnDYupvfIGU5O+aLCArHmQ58Q6VPCyd/6leloKVDTWeoJReUkcASagNwR1PnLVBi9EQzkT1EWHYBNno7JS0E3YYM73Tmp2D12z/LAlKRwdSUkN2yanKjOh77edR/rUKjdjepEfBu9PKciKVz94BlAOdvOymAg+GCZ79gHCf2yPV61PlrXDH2mVBfFrejJ8XvrYvs2lVnJZ1W9nlcjIA2fDdSMIm5jANH6b7ddovp4wybHYZPyZVMPGjxijeYY7SMvxt8c6XNFifUbH8Yiol7YMBfqT7d1unami4WGO2clwy9i3eQdZztRRH3vwvDKWvmPcVScW81AtqzcxDseobkQroLhQ/0I5GN+D4LbamDGqnii7qliOqxNO4IcCzkDtAoc+YdJpqB7V/uRukHMDFGRi1kF0h37/6qkgjD78JFUxW1SW2D80mLmHsxa8URfSKBZIdhVObKxfV1hKWh39Ugy+CdYnGfr6xR6nLQ0ZbWw6tgEgAAmB4IPAABmwP0AwAAJHcW+D4wDYsCAAAAAAFZWg==',
  plain:
    '/Td6WFoAAAFpIt42AgAhARYAAAB0L+Wj4AHzAT9dAHRj+ADmPxaX+zqGZ6cupbD4Aaqm74DRAjGL+6d2FLtV4ZykFeoqqNsKnkxm8tFmKsONbjidII0dj248Up8tUOtazv+pd/TVbdvgGLLGOVS4521sb0K4E91bJ8fQq6Pc6FoFwFRg3bEIaWkcvb8v0BBiHdi4lPuIJTngDJDGVgvlhRSpp6d5J2Z1mGv5hbbwfS/237ATh8SQBw3uaSt7rJj7KujrO1b5nJmTRWOHYIOHBZtaim8tj1GkgGT05mJxRghGtixn37v0A4yOdvOeaiAJP+5PnOqG23LH6irn1XOjhxGLuczXPObR5KDwKWdUk/s2cA/LU0JxrpFDqC2l5TKuT7R8PQ6JWpmu/qDbBsxsBVxBzWtJFUln8KrHS/boeymDGE9z/z2D17W06JKzGTABLLNyO8lCVQDryyT/oGsAAJgeCDwAAdcC9AMAAIOU7L0+MA2LAgAAAAABWVo=',
  blocks:
    '/Td6WFoAAAFpIt42AgEEACEBCADSuXTL4ADHAKpdAHRj+ADmRF5TAfHEUwuYcg2LAnDYupvfIGU5O+aLCArHmQ58Q6VPCyd/6leloKVDTWeoJReUkcASagNwR1PnLVBi9EQzkT1EWHYBNno7JS0E3YYM73Tmp2D12z/LAlKRwdSUkN2yanKjOh77edR/rUKjdjepEfBu9PKciKVz94BlAOdvOymAg+GCZ79gHCf2yPV61PlrXDH2mVBfFrejJ8XvrYvszg8SXpEAAAAA/ihovAIBBAAhAQgA0rl0y+AAxwCuXQAAJP5MjTaI6JT8Ob7JynAxIT+2TDWaI2jUwRzo5/uS7cy+qLDWMiXpw6/flXCKN34GkqzxZeBnS1NUI2rZ9QBrI+w55W3KTqRkHuhKkB//GNFLCwBalNLs04uP1b/SC9GocpStQalqfSpW4FQFSmbTPyY+9NG9Y48oSbJGXNlPPr5XurZ0buDR5hk5JDh59/tlswTNiPUsfLndfDQS0L7cz1WN0KtDlGyC2tm6ejYAAAABRz1mAgEEACEBCADSuXTL4ABjAFhdAHWsPBoP/FkfCjgwzUGn1rHOJa2/ML5XsBXIEQcpXIIJ+a7gjjUDNCTlxteuMSz2SaeOHFI3hPV9jFDz74JkH3bdldFAFnGyBsV7UYLjithO1LdBqIAFl3wAhzjfFQADwgHIAcYByAFwZPeZOKub41FAAwAAAAABWVo=',
  delta:
    '/Td6WFoAAAFpIt42AgEDAQMhAQj0sn4GAQBj6Oj/AAAF6ugXEv8YAOqJ6RcXDafTAIEAov8Ab3QA6QHpAAD/GAEAvP+EGEXqZZAAAABw6P8W/xiokQHob2/oGOkBGAAB/+noF+oAF5gWAOlnAf+okf8AWG/qGBgAAADjkQAABQCM6eBHAAF4ZJTjv42QQpkNAQAAAAABWVo=',
  lz4: 'AiFMGLoBAADwC+jo/wDo7eno///oAP/pcekWAH6Q6QD/kIv/AQDxDugA6P/o/wAA6Lv/hAAA6emQAOnpAOjo//8AkJAANADwAOgAAADp/+noAOnp/5j/6U4A8BaQkP/o6P/pAAD/6QDjkOkA6P+QkJBGYOnp/+j/6OgAkP/pnun/MAAAcwAgrf9SADEAyulFAHAAOP/p/5T/GwDwAv//AACQ6ejpAOn/kADp6P+3fQBCAOiQAJEAYOmQ6JAeAIAAIenSSgBAkP8AABwAAL4AEOiIACHp/50AECRAANHo6emWAADp6Ogz6OnpnAAx6enouwAQ6FYAUQCQkP/pMgBwAACQvf/o6RoAIQD/EAAx6AAA7wAQ6C0AQOno/5DXAAE9ACHp6IAAwf8A/wDoiP8A/+m26OQAEekkABD/ogDwBujpAPNx6eiw//8KAG+Q//8AUOkA0AUBQKIA6ZCrAIDoSeiQAHsA1v4AcOj/AJDp67HHAED/6ZMAhACQkACQAP8AkL//XwDh////6QDo6ejpov+Q/wCzAQD1AABzASLoQaEAEP8FAFAwwOSQ6YoAAboAIOkrkgAA0wCQ6ekX6f/p6ejo',
};
const bytes = (name: keyof typeof packed): Uint8Array => Uint8Array.from(Buffer.from(packed[name], 'base64'));
const MAX = 1 << 20;
const expected = branchy(500);

/** As Linux stores it: the unpacked size after the data. */
function withSize(data: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(data.length + 4);
  out.set(data);
  new DataView(out.buffer).setUint32(data.length, size, true);
  return out;
}

function bzImage(payload: Uint8Array, version = 0x020f): Uint8Array {
  const file = new Uint8Array(5 * 512 + 64 + payload.length);
  const dv = new DataView(file.buffer);
  dv.setUint8(0x1f1, 0);
  dv.setUint32(0x202, 0x53726448, true);
  dv.setUint16(0x206, version, true);
  dv.setUint32(0x248, 64, true);
  dv.setUint32(0x24c, payload.length, true);
  file.set(payload, 5 * 512 + 64);
  return file;
}

describe('xz', () => {
  test.each(['x86', 'plain', 'blocks'] as const)('%s', async (name) => {
    for (const payload of [bytes(name), withSize(bytes(name), 500)]) {
      const out = await slowUnpack({ compression: 'xz', payload, maxBytes: MAX });
      expect(Uint8Array.from(out)).toEqual(expected);
    }
  });

  test('a filter that no kernel uses is refused', async () => {
    await expect(slowUnpack({ compression: 'xz', payload: bytes('delta'), maxBytes: MAX })).rejects.toThrow('filter 3');
  });

  test('more than the limit is refused before it is unpacked', async () => {
    await expect(slowUnpack({ compression: 'xz', payload: bytes('x86'), maxBytes: 499 })).rejects.toThrow('limit 499');
  });

  test('damage anywhere is an error, not other data', async () => {
    const good = bytes('x86');
    for (let at = 0; at < good.length; at += 7) {
      const bad = Uint8Array.from(good);
      bad[at] = (bad[at] ?? 0) ^ 0x41;
      const out = await slowUnpack({ compression: 'xz', payload: bad, maxBytes: MAX }).catch(() => undefined);
      if (out) expect(Uint8Array.from(out)).toEqual(expected); // a part that does not matter, such as the stream's own CRC
    }
  });
});

describe('lz4', () => {
  test('a legacy frame', async () => {
    const out = await slowUnpack({ compression: 'lz4', payload: withSize(bytes('lz4'), 500), maxBytes: MAX });
    expect(out).toEqual(expected);
  });

  test('cut or damaged, it is a RangeError or of the size asked for', () => {
    const good = bytes('lz4');
    for (let length = 0; length < good.length; length += 5)
      expect(() => unlz4(good.subarray(0, length), 500)).toThrow(RangeError);
    for (let at = 4; at < good.length; at++) {
      const bad = Uint8Array.from(good);
      bad[at] = 0xff;
      try {
        expect(unlz4(bad, 500)).toHaveLength(500);
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }
  });
});

describe('bzImage', () => {
  test('its payload is found', () => {
    const payload = Uint8Array.of(1, 2, 3);
    expect(bzImagePayload(bzImage(payload))).toEqual(payload);
    expect(bzImagePayload(new Uint8Array(4096))).toBeUndefined();
  });

  test.each<[string, Uint8Array, string]>([
    ['an old protocol', bzImage(new Uint8Array(8), 0x0207), 'boot protocol too old (0207)'],
    ['a payload that is cut off', bzImage(new Uint8Array(100)).subarray(0, 2650), 'payload length overflow'],
    ['a payload outside', bzImage(new Uint8Array(100)).subarray(0, 2600), 'payload offset overflow'],
    ['unknown compression', bzImage(new Uint8Array(100)), 'unknown compression format'],
    ['bzip2', bzImage(Uint8Array.from([0x42, 0x5a, 0x68, 0, 0])), 'BZIP2 decompress support unavailable'],
    ['lzma', bzImage(Uint8Array.from([0x5d, 0, 0, 0, 0])), 'LZMA decompress support unavailable'],
    [
      'broken zstd',
      bzImage(Uint8Array.from([0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3, 4, 5])),
      'unable to ZSTD decompress kernel',
    ],
    ['xz of no ELF', bzImage(withSize(bytes('x86'), 500)), 'no loader found'],
    ['lz4 of no ELF', bzImage(withSize(bytes('lz4'), 500)), 'no loader found'],
  ])('%s', async (_, file, message) => {
    const failure = await unpackKernel(file).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(DomBuildError);
    expect((failure as Error).message).toContain(message);
  });

  test('compressions are told by their first bytes', () => {
    expect(compressionOf(bytes('x86'))).toBe('xz');
    expect(compressionOf(bytes('lz4'))).toBe('lz4');
    expect(compressionOf(new Uint8Array(3))).toBeUndefined();
  });
});

test('the worker is beside its source, or beside the bundle whatever chunk asks', () => {
  const from = (here: string): string => workerEntry(here).pathname;
  expect(from('file:///src/unpack/index.ts')).toBe('/src/unpack/worker.ts');
  expect(from('file:///dist/xend.mjs')).toBe('/dist/unpack-worker.mjs');
  expect(from('file:///dist/chunks/chunk-ABC.mjs')).toBe('/dist/unpack-worker.mjs');
});
