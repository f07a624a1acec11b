// Which device this tab is: the one it was before a reload, else one that no open tab is, else a new one. So what a closed tab
// had not sent yet is sent by the next one, and two tabs are two devices. A lock that the browser takes back with the page
// says that a device is in use.

const DEVICES_MAX = 50;
const RELOAD_WAIT_MS = 500; // the page before a reload may hold its lock a little longer

/** A random id of letters and digits, unguessable enough for keys that must be unique. @param {string} prefix */
export function randomId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {string} prefix of everything that is kept, so that users and servers do not meet
 * @param {{local: Storage | null, session: Storage | null, locks: LockManager | undefined}} browser null or undefined: denied
 * @returns {Promise<{deviceId: string, release: () => void}>} ours until `release`, or until the page goes
 */
export async function claimDevice(prefix, { local, session, locks }) {
  const former = session?.getItem(`${prefix}device`) ?? null;
  const known = read(local, `${prefix}devices`);
  if (local === null || !locks) return { deviceId: remember(session, prefix, former ?? randomId("web-")), release: () => {} };
  const tried = former === null ? known : [former, ...known.filter((id) => id !== former)];
  for (const deviceId of [...tried, randomId("web-")]) {
    const release = await lock(locks, `${prefix}${deviceId}`, deviceId === former ? RELOAD_WAIT_MS : 0);
    if (release === null) continue;
    const all = read(local, `${prefix}devices`);
    if (!all.includes(deviceId)) local.setItem(`${prefix}devices`, JSON.stringify([...all, deviceId].slice(-DEVICES_MAX)));
    return { deviceId: remember(session, prefix, deviceId), release };
  }
  throw new Error("a new lock is always free");
}

/** @param {Storage | null} session @param {string} prefix @param {string} deviceId */
function remember(session, prefix, deviceId) {
  session?.setItem(`${prefix}device`, deviceId);
  return deviceId;
}

/** @param {Storage | null} local @param {string} key @returns {string[]} */
function read(local, key) {
  try {
    const ids = JSON.parse(local?.getItem(key) ?? "[]");
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string") : [];
  } catch {
    return [];
  }
}

/** Take a lock within this time; null if somebody has it. @param {LockManager} locks @param {string} name @param {number} waitMs
 * @returns {Promise<(() => void) | null>} what gives it back */
function lock(locks, name, waitMs) {
  return new Promise((resolve) => {
    /** @param {Lock | null} held */
    const hold = (held) => (held === null ? resolve(null) : new Promise((release) => resolve(() => release(undefined))));
    const options = waitMs > 0 ? { signal: AbortSignal.timeout(waitMs) } : { ifAvailable: true };
    locks.request(name, options, hold).catch(() => resolve(null));
  });
}
