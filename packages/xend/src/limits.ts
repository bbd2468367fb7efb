/** Every limit of xend, in one place; docs/LIMITS.md repeats them for people. */

/** Bytes of a request. */
export const MAX_REQUEST_BYTES = 4 << 20;
/** Bytes of all requests that are being received or answered, over all servers. */
export const MAX_REQUESTS_BYTES = 64 << 20;
/** Bytes of a request over the limit that are read on, so that its sender sees the fault. */
export const MAX_DISCARDED_BYTES = 64 << 20;
/** Connections of one server; more are turned away. */
export const MAX_CONNECTIONS = 1000;
/** How long a client may take to send the head of a request, all of it, and the next on a connection kept alive. */
export const HEAD_TIMEOUT_MS = 20_000;
export const REQUEST_TIMEOUT_MS = 60_000;
export const KEEP_ALIVE_TIMEOUT_MS = 72_000;
/** How long a TLS handshake may take. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** How often slow clients are looked for. */
export const TIMEOUT_CHECK_MS = 2_000;
/** Password checks at a time, and waiting; how long one may take. */
export const MAX_PASSWORD_CHECKS = 4;
export const MAX_WAITING_PASSWORD_CHECKS = 64;
export const PASSWORD_CHECK_TIMEOUT_MS = 60_000;
/** Characters of a name or password given at login. */
export const MAX_CREDENTIAL_LENGTH = 512;
/** How long the other host may be silent between two lines, within an image (its guest suspends itself), and restoring it. */
export const RELOCATION_TIMEOUT_MS = 30_000;
export const RELOCATION_IMAGE_TIMEOUT_MS = 150_000;
export const RELOCATION_ANSWER_TIMEOUT_MS = 300_000;
/** How long an error of the other host is waited for when sending failed. */
export const RELOCATION_ERROR_TIMEOUT_MS = 3_000;
/** Domains that are received at a time. */
export const MAX_RELOCATIONS = 4;
/** Bytes of xend.log before it is renamed to xend.log.1. */
export const MAX_LOG_BYTES = 1 << 20;
/** Characters of a domain's name: it becomes part of xenstore values and file names. */
export const MAX_NAME_LENGTH = 128;
/** Virtual CPUs of one domain (Xen's legacy PV limit is 8192; shared_info holds 32, the rest need vcpu_info placement). */
export const MAX_VCPUS = 128;
/** Devices of one domain. */
export const MAX_DEVICES = 512;
/** Bytes of a text that becomes one xenstore value: a message holds 4096 with its path. */
export const MAX_TEXT_BYTES = 2048;
/** Bytes of the image part of a configuration, which xenstore holds as one value. */
export const MAX_IMAGE_TEXT_BYTES = 3072;
/** MiB of one domain: Domain-0's maximum, which is Xen's own, fits. */
export const MAX_MEMORY_MIB = 2 ** 24;
/** Bytes of a kernel or ramdisk file. */
export const MAX_IMAGE_BYTES = 1 << 30;
/** How long the backend of a domain that is no more may take to go away before its nodes are removed anyway. */
export const BACKEND_RETIRE_TIMEOUT_MS = 10_000;
/** A domain that lived shorter than this is not restarted. */
export const MINIMUM_RESTART_TIME_S = 60;
/** How long a guest may take to obey control/shutdown before it is marked unresponsive. */
export const SHUTDOWN_TIMEOUT_S = 300;
/** How long memory of domains that are dying is waited for. */
export const MEMORY_WAIT_MS = 3_000;
export const MEMORY_POLL_MS = 50;
/** How long a destroyed domain may stay in the hypervisor's list before destroy gives up waiting. */
export const DESTROY_WAIT_MS = 2_000;
/** Frames that a guest may claim to have when its memory is dumped or saved: 64 GiB. */
export const MAX_GUEST_PFNS = 1 << 24;
/** How long a guest may take to suspend itself. */
export const SUSPEND_TIMEOUT_MS = 120_000;
export const SUSPEND_POLL_MS = 20;
/** A device model that dies more often than so many times in so long is left dead. */
export const DEVICE_MODEL_RESTARTS = 5;
export const DEVICE_MODEL_RESTARTS_MS = 60_000;
/** How often device models that an earlier xend started are looked at. */
export const DEVICE_MODEL_CHECK_MS = 1_000;
/** How long a device model may take to end before it is killed. */
export const DEVICE_MODEL_END_MS = 10_000;
/** How long a device model may take to come up before its guest is started without it. */
export const DEVICE_MODEL_WAIT_MS = 10_000;
