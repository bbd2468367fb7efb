/** A vif's rate limit: `10Mb/s@20ms` to the `BYTES,USEC` that the backend reads (Xen 4.4 `netif.py`). */

const RATE = /^(\d+)([GMK]?)([Bb])\/s(@(\d+)([mu]?)s)?$/;
const SCALE: Readonly<Record<string, number>> = { '': 1, K: 1e3, M: 1e6, G: 1e9 };
const INTERVAL_SCALE: Readonly<Record<string, number>> = { u: 1, m: 1e3, '': 1e6 };
const DEFAULT_INTERVAL_US = 50_000;
const UNLIMITED = 0xffffffff;

export function rateCredit(text: string): string {
  const match = RATE.exec(text);
  if (!match) return `${UNLIMITED},0`;
  const [, amount, scale = '', unit, interval, length, lengthUnit = ''] = match;
  const bytesPerSecond = (Number(amount) * (SCALE[scale] ?? 1)) / (unit === 'b' ? 8 : 1);
  const intervalUs = interval === undefined ? DEFAULT_INTERVAL_US : Number(length) * (INTERVAL_SCALE[lengthUnit] ?? 1);
  const bytes = Math.floor((bytesPerSecond * intervalUs) / 1e6);
  const outOfRange = bytes === 0 || bytes > UNLIMITED || intervalUs === 0 || intervalUs > UNLIMITED;
  return outOfRange ? `${UNLIMITED},0` : `${bytes},${intervalUs}`;
}
