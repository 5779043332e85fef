// A labelled control; the hint and the fault are read out with it.

import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { Say } from "./i18n";

export interface Said {
  en: string;
  zh: string;
}

export function Field({ label, unit, hint, fault, children }: {
  label: Said;
  unit?: Said | null;
  hint?: Said | null;
  fault?: Said | null;
  children: (control: { id: string; "aria-describedby"?: string; "aria-invalid"?: boolean }) => ComponentChildren;
}) {
  const id = useId();
  const told = [hint ? `${id}-hint` : "", fault ? `${id}-fault` : ""].filter(Boolean).join(" ");
  return (
    <div class="field">
      <label for={id}><Say {...label} />{unit ? <span class="unit"><Say {...unit} /></span> : null}</label>
      {children({ id, "aria-describedby": told || undefined, "aria-invalid": fault ? true : undefined })}
      {hint ? <p class="hint" id={`${id}-hint`}><Say {...hint} /></p> : null}
      {fault ? <p class="fault" id={`${id}-fault`}><Say {...fault} /></p> : null}
    </div>
  );
}
