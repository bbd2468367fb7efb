/** Names of virtual disks to the numbers that go into xenstore (Xen 4.4 `xen/util/blkif.py`, `xen/include/public/io/blkif.h`). */

export interface BlockDeviceNumber {
  /** The frontend's node: names beyond the classic 16 disks have one of their own. */
  readonly key: 'virtual-device' | 'virtual-device-ext';
  readonly number: number;
}

const SCSI_MAJORS = [8, 65, 66, 67, 68, 69, 70, 71, 128, 129, 130, 131, 132, 133, 134, 135];
const IDE_MAJORS = [3, 22, 33, 34, 56, 57, 88, 89, 90, 91];
const XVD_MAJOR = 202;
const EXTENDED = 2 ** 28;

const letter = (char: string): number => char.charCodeAt(0) - 'a'.charCodeAt(0);
/** `a`..`z` are 0..25, `aa` is 26. */
const disk = (letters: string): number =>
  letters.length === 1 ? letter(letters) : (letter(letters) + 1) * 26 + letter(letters.charAt(1));

/** `undefined` for a name that is none. */
export function blockDeviceNumber(name: string): BlockDeviceNumber | undefined {
  if (/^0x[0-9a-f]+$/i.test(name) || /^\d+$/.test(name)) {
    const number = Number(name);
    return number <= 0xffffffff ? { key: 'virtual-device', number } : undefined;
  }
  const match = /^(?:\/dev\/)?(sd|hd|xvd)([a-z]{1,2})([1-9]\d?)?$/.exec(name);
  if (!match) return undefined;
  const [, family, letters = '', partitionText] = match;
  const partition = Number(partitionText ?? 0);
  const index = disk(letters);
  switch (family) {
    case 'sd': {
      const major = SCSI_MAJORS[index >> 4];
      if (major === undefined || partition > 15) return undefined;
      return { key: 'virtual-device', number: (major << 8) + ((index & 15) << 4) + partition };
    }
    case 'hd': {
      const major = IDE_MAJORS[index >> 1];
      if (major === undefined || letters.length > 1 || partition > 63) return undefined;
      return { key: 'virtual-device', number: (major << 8) + ((index & 1) << 6) + partition };
    }
    default:
      if (partition > 15 || (letters.length === 2 && letters.charAt(0) > 'i')) return undefined;
      if (index < 16) return { key: 'virtual-device', number: (XVD_MAJOR << 8) + (index << 4) + partition };
      return { key: 'virtual-device-ext', number: EXTENDED + (index << 8) + partition };
  }
}
