/** A random id of letters and digits, unguessable enough for keys that must be unique. @param {string} prefix */
export declare function randomId(prefix: string): string;
/**
 * @param {string} prefix of everything that is kept, so that users and servers do not meet
 * @param {{local: Storage | null, session: Storage | null, locks: LockManager | undefined}} browser null or undefined: denied
 * @returns {Promise<{deviceId: string, release: () => void}>} ours until `release`, or until the page goes
 */
export declare function claimDevice(prefix: string, { local, session, locks }: {
    local: Storage | null;
    session: Storage | null;
    locks: LockManager | undefined;
}): Promise<{
    deviceId: string;
    release: () => void;
}>;
