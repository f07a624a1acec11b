export type Message = import("./types.js").Message;
export type Payload = import("./types.js").Payload;
export type Source = Blob | ArrayBuffer | ArrayBufferView;
export type OnProgress = (doneBytes: number, wholeBytes: number) => void;
export type Parts = import("./types.js").Ports & {
    transfers: import("./transfers.js").Transfers;
    api: Pick<import("./api.js").Api, "request">;
};
/** A file that was uploaded, and may be sent. */
export declare class Upload {
    blobId: string;
    mime: string;
    size: number;
    name: string | null;
    /** @param {string} blobId its name on the server @param {string} mime @param {number} size in bytes
     * @param {string | null} name what it is called */
    constructor(blobId: string, mime: string, size: number, name: string | null);
    /** The payload of a message that shows it: IMAGE, VOICE, or FILE for all else. More fields may be added. @returns {Payload} */
    payload(): Payload;
}
/** The files of one login. */
export declare class Media {
    #private;
    parts: Parts;
    /** @param {Parts} parts */
    constructor(parts: Parts);
    /** See `ChatClient.upload`.
     * @param {Source} source @param {{mime?: string, name?: string, onProgress?: OnProgress}} options @param {AbortSignal} signal
     * @returns {Promise<Upload>} */
    upload(source: Source, { mime, name, onProgress }: {
        mime?: string;
        name?: string;
        onProgress?: OnProgress;
    }, signal: AbortSignal): Promise<Upload>;
    /** See `ChatClient.download`.
     * @param {Message | string} what @param {{onProgress?: OnProgress}} options @param {AbortSignal} signal @returns {Promise<Blob>} */
    download(what: Message | string, { onProgress }: {
        onProgress?: OnProgress;
    }, signal: AbortSignal): Promise<Blob>;
    /** See `ChatClient.fileLink`. @param {Message | string} what */
    link(what: Message | string): Promise<{
        url: string;
        mime: any;
        size: any;
        expiresTs: any;
    }>;
}
export type Opened = {
    blob: Blob;
    mime: string;
    name: string | null;
};
