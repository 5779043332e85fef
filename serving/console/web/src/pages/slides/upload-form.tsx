// Upload of a slide: its file, files or folder, request form, SHA-256 and progress of each file.

import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { Upload } from "tus-js-client";
import { ErrorMessage } from "../../ui/feedback";
import { translate, Text, type Labels } from "../../ui/i18n";
import { formatNumber } from "../../ui/format";
import { fromDrop, fromInput, groupName, manifestSha256, type SlideFile } from "./slide-files";
import { hashFile, uploadSlide } from "./upload";
import { SPECIMENS, TBS } from "./labels";

const CHOICES: Record<string, Labels> = {
  specimen: SPECIMENS,
  stain: { papanicolaou: ["Papanicolaou", "巴氏"], haematoxylin_eosin: ["Haematoxylin and eosin", "HE"], other: ["Other", "其他"] },
  preparation: {
    liquid_based: ["Liquid-based", "液基"], conventional_smear: ["Conventional smear", "传统涂片"],
    paraffin_section: ["Paraffin section", "石蜡切片"], frozen_section: ["Frozen section", "冰冻切片"], other: ["Other", "其他"],
  },
  menopause: { "": ["Unknown", "未知"], before: ["Before", "未绝经"], after: ["After", "已绝经"] },
  hpv_result: { "": ["Unknown", "未知"], positive: ["Positive", "阳性"], negative: ["Negative", "阴性"] },
  previous_result: { "": ["Unknown", "未知"], ...TBS },
};

interface UploadStatus {
  en: string;
  zh: string;
  share: number;
  sha256?: string;
  slide?: string;
}

export function UploadForm({ onSent }: { onSent: () => void }) {
  const form = useRef<HTMLFormElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const [files, setFiles] = useState<SlideFile[]>([]);
  const [shares, setShares] = useState<number[]>([]); // of each file: up to .5 its SHA-256, then its upload
  const [dragOver, setDragOver] = useState(false);
  const [upload, setUpload] = useState<Upload | null>(null);
  const [paused, setPaused] = useState(false);
  const [busy, setBusy] = useState(false);
  const [status, setStatus] = useState<UploadStatus | null>(null);
  const [failure, setFailure] = useState<unknown>(null);

  useEffect(() => folder.current?.setAttribute("webkitdirectory", ""), []);

  const choose = (chosen: SlideFile[]) => {
    setFiles(chosen);
    setShares([]);
    setStatus(null);
    setFailure(null);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setDragOver(false);
    if (event.dataTransfer && !busy) fromDrop(event.dataTransfer).then(choose, setFailure);
  };
  const send = async (event: Event) => {
    event.preventDefault();
    if (!files.length || !form.current) return;
    setBusy(true);
    setFailure(null);
    try {
      const fields = formFields(new FormData(form.current));
      const bytes = files.reduce((sum, { file }) => sum + file.size, 0) || 1;
      const fileShares = files.map(() => 0);
      const showShare = (index: number, share: number, en: string, zh: string) => {
        fileShares[index] = share;
        setShares([...fileShares]);
        const sent = files.reduce((sum, { file }, each) => sum + file.size * fileShares[each]!, 0);
        setStatus({ en, zh, share: sent / bytes });
      };
      const digests = [];
      for (const [index, { file, path }] of files.entries()) {
        const digest = await hashFile(file, (share) => showShare(index, share / 2, "Computing the SHA-256 …", "正在计算 SHA-256……"));
        digests.push({ path, digest });
      }
      const isGroup = files.length > 1;
      const sha256 = isGroup ? manifestSha256(digests) : digests[0]!.digest;
      const group = isGroup ? { group: groupName(sha256, fields), files: String(files.length) } : {};
      let slide = "";
      for (const [index, { file, path }] of files.entries()) {
        const place = isGroup ? { ...group, relativePath: path } : {};
        const metadata = { filename: file.name, sha256: digests[index]!.digest, ...fields, ...place };
        slide = await uploadSlide(file, metadata, (share) => showShare(index, 0.5 + share / 2, "Uploading …", "上传中……"), setUpload);
        showShare(index, 1, "Uploading …", "上传中……");
      }
      setStatus({ en: "Received; verification in progress.", zh: "已接收，正在校验。", share: 1, sha256, slide });
      onSent();
    } catch (error) {
      setStatus(null);
      setFailure(error);
    } finally {
      setBusy(false);
      setUpload(null);
      setPaused(false);
    }
  };
  const pause = () => {
    if (paused) upload?.start();
    else void upload?.abort();
    setPaused(!paused);
  };

  return (
    <section class="card" aria-labelledby="send">
      <h2 id="send"><Text en="Send a slide" zh="上传切片" /></h2>
      <form id="form" ref={form} onSubmit={send}>
        <label class={dragOver ? "drop dragging" : "drop"} id="drop-zone" onDragEnter={(event) => { event.preventDefault(); setDragOver(true); }}
          onDragOver={(event) => { event.preventDefault(); setDragOver(true); }} onDragLeave={() => setDragOver(false)} onDrop={drop}>
          <input type="file" id="file" multiple required={!files.length} disabled={busy} ref={input} onChange={() => choose(fromInput(input.current?.files ?? null))} />
          <b id="selected-file">{files.length ? <Selection files={files} /> : <Text en="Drop a slide here, or choose its file or files" zh="将切片拖到此处，或点击选择其文件（可多选）" />}</b>
          <span class="quiet">SVS, TIFF, NDPI, MRXS, SCN, BIF, DICOM, KFB, PNG, JPEG, ZIP</span>
        </label>
        <p class="folder">
          <button type="button" disabled={busy} onClick={() => folder.current?.click()}><Text en="Choose a folder" zh="选择文件夹" /></button>
          <input type="file" id="folder" class="hidden" tabindex={-1} aria-label={translate("Folder of a slide", "切片文件夹")} disabled={busy} ref={folder} onChange={() => choose(fromInput(folder.current?.files ?? null))} />
          <span class="quiet"><Text en="All files make one slide." zh="所选全部文件组成一张切片。" /></span>
        </p>
        {files.length > 1 ? <FileList files={files} shares={shares} /> : null}
        <FormField id="accession" en="Accession number *" zh="病理号 *"><input id="accession" name="accession" required maxLength={64} autocomplete="off" /></FormField>
        <SelectField id="specimen" en="Specimen *" zh="标本 *" />
        <div class="pair">
          <SelectField id="stain" en="Stain *" zh="染色 *" />
          <SelectField id="preparation" en="Preparation *" zh="制片 *" />
          <FormField id="age" en="Age, years" zh="年龄（岁）"><input id="age" name="age" type="number" min="0" max="120" step="1" /></FormField>
          <SelectField id="menopause" en="Menopause" zh="绝经" />
          <SelectField id="hpv_result" en="HPV" zh="HPV" />
          <FormField id="hpv_genotype" en="HPV types" zh="HPV 型别"><input id="hpv_genotype" name="hpv_genotype" placeholder="16, 52" pattern="[0-9, ]*" /></FormField>
        </div>
        <SelectField id="previous_result" en="Previous result" zh="既往结果" />
        <FormField id="mpp" en="µm per pixel, if not in the file" zh="分辨率（µm/像素，文件未记录时填写）"><input id="mpp" name="mpp" type="number" min="0.02" max="40" step="any" /></FormField>
        <p class="actions">
          <button type="submit" id="submit-upload" class="main" disabled={busy}><Text en="Send" zh="上传" /></button>
          <button type="button" id="pause" hidden={!upload} onClick={pause}>{paused ? <Text en="Resume" zh="继续" /> : <Text en="Pause" zh="暂停" />}</button>
        </p>
        <div id="upload-status" role="status" aria-live="polite">
          {failure ? <ErrorMessage error={failure} /> : null}
          {status ? (
            <>
              <p><Text en={status.en} zh={status.zh} /></p>
              <div class="progress"><progress max={1} value={status.share} aria-label={translate("Progress", "进度")} /><span>{Math.round(100 * status.share)} %</span></div>
              {status.sha256 ? <p class="quiet">SHA-256 <code id="sha256">{status.sha256}</code></p> : null}
              {status.slide ? <p class="actions"><a class="button main" href={`/console/slides/${status.slide}`}><Text en="Open the slide" zh="打开切片" /></a></p> : null}
            </>
          ) : null}
        </div>
      </form>
    </section>
  );
}

function Selection({ files }: { files: SlideFile[] }) {
  const megabytes = (files.reduce((sum, { file }) => sum + file.size, 0) / 1e6).toFixed(1);
  if (files.length === 1) return <>{`${files[0]!.path} · ${megabytes} MB`}</>;
  return <Text en={`${formatNumber(files.length)} files · ${megabytes} MB`} zh={`${formatNumber(files.length)} 个文件 · ${megabytes} MB`} />;
}

function FileList({ files, shares }: { files: SlideFile[]; shares: number[] }) {
  return (
    <ol id="files" class="files" tabindex={0} aria-label={translate("Files of the slide", "切片的文件")}>
      {files.map(({ file, path }, index) => (
        <li key={path}>
          <span class="path">{path}</span>
          <span class="quiet">{(file.size / 1e6).toFixed(1)} MB</span>
          <progress max={1} value={shares[index] ?? 0} aria-label={`${translate("Progress", "进度")} ${path}`} />
          <span>{Math.round(100 * (shares[index] ?? 0))} %</span>
        </li>
      ))}
    </ol>
  );
}

function FormField({ id, en, zh, children }: { id: string; en: string; zh: string; children: ComponentChildren }) {
  return <div class="field"><label for={id}><Text en={en} zh={zh} /></label>{children}</div>;
}

function SelectField({ id, en, zh }: { id: string; en: string; zh: string }) {
  return (
    <FormField id={id} en={en} zh={zh}>
      <select id={id} name={id} required={en.endsWith("*")}>
        {Object.entries(CHOICES[id]!).map(([code, names]) => (
          <option key={code} value={code}>{id === "previous_result" && code ? `${code} · ${translate(...names)}` : translate(...names)}</option>
        ))}
      </select>
    </FormField>
  );
}

// The form's values that are sent with each file; an empty field is omitted, never 0.
function formFields(form: FormData): Record<string, string> {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  const fields: Record<string, string> = {};
  for (const name of ["accession", "specimen", "stain", "preparation", "mpp"]) if (text(name)) fields[name] = text(name);
  const request: Record<string, unknown> = {};
  for (const name of ["menopause", "hpv_result", "previous_result"]) if (text(name)) request[name] = text(name);
  if (text("age")) request.age = Number(text("age"));
  const genotypes = text("hpv_genotype").split(/[ ,]+/).filter(Boolean);
  if (genotypes.length) request.hpv_genotype = genotypes;
  return { ...fields, request: JSON.stringify(request) };
}
