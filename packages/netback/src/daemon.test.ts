import { expectRefusal } from '@xenhost/xenstore-client/testing';
import { DEVICE_CLASS, REFUSAL } from './index.ts';

test('a device is refused at once with a reason, and let go when it is closed', async () => {
  await expectRefusal({ source: __dirname, deviceClass: DEVICE_CLASS, deviceId: 51712, reason: REFUSAL });
});
