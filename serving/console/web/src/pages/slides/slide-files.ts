// The files of one slide as a person chooses or drops them, each with its path in the slide's folder.

import { sha256 } from "js-sha256";

export interface SlideFile {
  file: File;
  path: string; // relative, with / between folders
}

const IGNORED = /(^|\/)(\.[^/]*|thumbs\.db|desktop\.ini|__MACOSX\/.*)$/i; // what operating systems add to folders

export function fromInput(files: FileList | null): SlideFile[] {
  return relevant([...(files ?? [])].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
}

// What was dropped, with the files of its folders. The entries must be read before the event ends.
export async function fromDrop(data: DataTransfer): Promise<SlideFile[]> {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.length) return fromInput(data.files);
  return relevant((await Promise.all(entries.map(filesOf))).flat());
}

async function filesOf(entry: FileSystemEntry): Promise<SlideFile[]> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const children: FileSystemEntry[] = [];
  for (;;) { // a browser gives a hundred at a time
    const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) break;
    children.push(...batch);
  }
  return (await Promise.all(children.map(filesOf))).flat();
}

function relevant(files: SlideFile[]): SlideFile[] {
  return files.filter(({ path }) => !IGNORED.test(path)).sort((first, second) => (first.path < second.path ? -1 : 1));
}

// The SHA-256 of a slide of several files: that of the list of its files as `sha256sum` prints it, in the order of their bytes.
export function manifestSha256(digests: { path: string; digest: string }[]): string {
  const encoder = new TextEncoder();
  const lines = digests.map(({ path, digest }) => ({ key: encoder.encode(path), line: `${digest}  ${path}\n` }));
  return sha256(lines.sort((first, second) => compareBytes(first.key, second.key)).map(({ line }) => line).join(""));
}

function compareBytes(first: Uint8Array, second: Uint8Array): number {
  for (let index = 0; index < Math.min(first.length, second.length); index += 1) {
    if (first[index] !== second[index]) return first[index]! - second[index]!;
  }
  return first.length - second.length;
}

// The name of the group of uploads: the same if the same slide is sent again with the same form, so that it continues.
export function groupName(manifest: string, form: Record<string, string>): string {
  return sha256(JSON.stringify([manifest, form])).slice(0, 32);
}
