// Upload of a slide: file selection, request form, SHA-256 and progress.

import { useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { Upload } from "tus-js-client";
import { ErrorMessage } from "../../ui/feedback";
import { translate, Text, type Labels } from "../../ui/i18n";
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
  const [file, setFile] = useState<File | null>(null);
  const [dragOver, setDragOver] = useState(false);
  const [upload, setUpload] = useState<Upload | null>(null);
  const [paused, setPaused] = useState(false);
  const [busy, setBusy] = useState(false);
  const [status, setStatus] = useState<UploadStatus | null>(null);
  const [failure, setFailure] = useState<unknown>(null);

  const drop = (event: DragEvent) => {
    event.preventDefault();
    setDragOver(false);
    const files = event.dataTransfer?.files;
    if (files?.length && input.current) {
      input.current.files = files;
      setFile(files[0]!);
    }
  };
  const send = async (event: Event) => {
    event.preventDefault();
    const selectedFile = input.current?.files?.[0];
    if (!selectedFile || !form.current) return;
    setBusy(true);
    setFailure(null);
    try {
      const formData = new FormData(form.current);
      const sha256 = await hashFile(selectedFile, (share) => setStatus({ en: "Computing the SHA-256 …", zh: "正在计算 SHA-256……", share }));
      const slide = await uploadSlide(selectedFile, metadata(selectedFile, formData, sha256), (share) => setStatus({ en: "Uploading …", zh: "上传中……", share }), setUpload);
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
          <input type="file" id="file" required ref={input} onChange={() => setFile(input.current?.files?.[0] ?? null)} />
          <b id="selected-file">{file ? `${file.name} · ${(file.size / 1e6).toFixed(1)} MB` : <Text en="Drop a slide here, or choose one" zh="将切片拖到此处，或点击选择" />}</b>
          <span class="quiet">SVS, TIFF, DICOM, KFB, PNG, JPEG</span>
        </label>
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

// The form's values that are sent with the file; an empty field is omitted, never 0.
function metadata(file: File, form: FormData, sha256: string): Record<string, string> {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  const fields: Record<string, string> = { filename: file.name, sha256 };
  for (const name of ["accession", "specimen", "stain", "preparation", "mpp"]) if (text(name)) fields[name] = text(name);
  const request: Record<string, unknown> = {};
  for (const name of ["menopause", "hpv_result", "previous_result"]) if (text(name)) request[name] = text(name);
  if (text("age")) request.age = Number(text("age"));
  const genotypes = text("hpv_genotype").split(/[ ,]+/).filter(Boolean);
  if (genotypes.length) request.hpv_genotype = genotypes;
  return { ...fields, request: JSON.stringify(request) };
}
