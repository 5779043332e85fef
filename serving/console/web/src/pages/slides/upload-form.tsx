// The form of a slide that is sent: dropped or chosen, its SHA-256, its way to the service.

import { useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { Upload } from "tus-js-client";
import { Failed } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import { digest, put } from "./upload";
import { SPECIMENS, TBS, type Words } from "./labels";

const CHOICES: Record<string, Words> = {
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

interface Told {
  en: string;
  zh: string;
  share: number;
  sha256?: string;
  slide?: string;
}

export function Sender({ sent }: { sent: () => void }) {
  const form = useRef<HTMLFormElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const [file, setFile] = useState<File | null>(null);
  const [over, setOver] = useState(false);
  const [upload, setUpload] = useState<Upload | null>(null);
  const [paused, setPaused] = useState(false);
  const [busy, setBusy] = useState(false);
  const [told, setTold] = useState<Told | null>(null);
  const [failed, setFailed] = useState<unknown>(null);

  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    const files = event.dataTransfer?.files;
    if (files?.length && input.current) {
      input.current.files = files;
      setFile(files[0]!);
    }
  };
  const send = async (event: Event) => {
    event.preventDefault();
    const chosen = input.current?.files?.[0];
    if (!chosen || !form.current) return;
    setBusy(true);
    setFailed(null);
    try {
      const said = new FormData(form.current);
      const sha256 = await digest(chosen, (share) => setTold({ en: "Working out the SHA-256 …", zh: "正在计算 SHA-256……", share }));
      const slide = await put(chosen, metadata(chosen, said, sha256), (share) => setTold({ en: "Sending …", zh: "上传中……", share }), setUpload);
      setTold({ en: "Received; it is being verified.", zh: "已接收，正在校验。", share: 1, sha256, slide });
      sent();
    } catch (error) {
      setTold(null);
      setFailed(error);
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
      <h2 id="send"><Say en="Send a slide" zh="上传切片" /></h2>
      <form id="form" ref={form} onSubmit={send}>
        <label class={over ? "drop over" : "drop"} id="drop" onDragEnter={(event) => { event.preventDefault(); setOver(true); }}
          onDragOver={(event) => { event.preventDefault(); setOver(true); }} onDragLeave={() => setOver(false)} onDrop={drop}>
          <input type="file" id="file" required ref={input} onChange={() => setFile(input.current?.files?.[0] ?? null)} />
          <b id="chosen">{file ? `${file.name} · ${(file.size / 1e6).toFixed(1)} MB` : <Say en="Drop a slide here, or choose one" zh="将切片拖到此处，或点击选择" />}</b>
          <span class="quiet">SVS, TIFF, DICOM, KFB, PNG, JPEG</span>
        </label>
        <Asked id="accession" en="Accession number *" zh="病理号 *"><input id="accession" name="accession" required maxLength={64} autocomplete="off" /></Asked>
        <Choice id="specimen" en="Specimen *" zh="标本 *" />
        <div class="pair">
          <Choice id="stain" en="Stain *" zh="染色 *" />
          <Choice id="preparation" en="Preparation *" zh="制片 *" />
          <Asked id="age" en="Age, years" zh="年龄（岁）"><input id="age" name="age" type="number" min="0" max="120" step="1" /></Asked>
          <Choice id="menopause" en="Menopause" zh="绝经" />
          <Choice id="hpv_result" en="HPV" zh="HPV" />
          <Asked id="hpv_genotype" en="HPV types" zh="HPV 型别"><input id="hpv_genotype" name="hpv_genotype" placeholder="16, 52" pattern="[0-9, ]*" /></Asked>
        </div>
        <Choice id="previous_result" en="Previous result" zh="既往结果" />
        <Asked id="mpp" en="µm per pixel, if the file has none" zh="每像素微米（文件未记录时）"><input id="mpp" name="mpp" type="number" min="0.02" max="40" step="any" /></Asked>
        <p class="actions">
          <button type="submit" id="go" class="main" disabled={busy}><Say en="Send" zh="上传" /></button>
          <button type="button" id="pause" hidden={!upload} onClick={pause}>{paused ? <Say en="Go on" zh="继续" /> : <Say en="Pause" zh="暂停" />}</button>
        </p>
        <div id="sending" role="status" aria-live="polite">
          {failed ? <Failed error={failed} /> : null}
          {told ? (
            <>
              <p><Say en={told.en} zh={told.zh} /></p>
              <div class="progress"><progress max={1} value={told.share} aria-label={plain("Progress", "进度")} /><span>{Math.round(100 * told.share)} %</span></div>
              {told.sha256 ? <p class="quiet">SHA-256 <code id="sha256">{told.sha256}</code></p> : null}
              {told.slide ? <p class="actions"><a class="button main" href={`/console/slides/${told.slide}`}><Say en="Open the slide" zh="打开切片" /></a></p> : null}
            </>
          ) : null}
        </div>
      </form>
    </section>
  );
}

function Asked({ id, en, zh, children }: { id: string; en: string; zh: string; children: ComponentChildren }) {
  return <div class="field"><label for={id}><Say en={en} zh={zh} /></label>{children}</div>;
}

function Choice({ id, en, zh }: { id: string; en: string; zh: string }) {
  return (
    <Asked id={id} en={en} zh={zh}>
      <select id={id} name={id} required={en.endsWith("*")}>
        {Object.entries(CHOICES[id]!).map(([code, names]) => (
          <option key={code} value={code}>{id === "previous_result" && code ? `${code} · ${plain(...names)}` : plain(...names)}</option>
        ))}
      </select>
    </Asked>
  );
}

// What of the form goes with the file: empty is not told, never 0.
function metadata(file: File, form: FormData, sha256: string): Record<string, string> {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  const told: Record<string, string> = { filename: file.name, sha256 };
  for (const name of ["accession", "specimen", "stain", "preparation", "mpp"]) if (text(name)) told[name] = text(name);
  const request: Record<string, unknown> = {};
  for (const name of ["menopause", "hpv_result", "previous_result"]) if (text(name)) request[name] = text(name);
  if (text("age")) request.age = Number(text("age"));
  const types = text("hpv_genotype").split(/[ ,]+/).filter(Boolean);
  if (types.length) request.hpv_genotype = types;
  return { ...told, request: JSON.stringify(request) };
}
