// A labelled form control; screen readers read its hint and its error with it.

import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { Text } from "./i18n";

export interface BilingualText {
  en: string;
  zh: string;
}

export function Field({ label, unit, hint, fault, children }: {
  label: BilingualText;
  unit?: BilingualText | null;
  hint?: BilingualText | null;
  fault?: BilingualText | null;
  children: (control: { id: string; "aria-describedby"?: string; "aria-invalid"?: boolean }) => ComponentChildren;
}) {
  const id = useId();
  const describedBy = [hint ? `${id}-hint` : "", fault ? `${id}-fault` : ""].filter(Boolean).join(" ");
  return (
    <div class="field">
      <label for={id}><Text {...label} />{unit ? <span class="unit"><Text {...unit} /></span> : null}</label>
      {children({ id, "aria-describedby": describedBy || undefined, "aria-invalid": fault ? true : undefined })}
      {hint ? <p class="hint" id={`${id}-hint`}><Text {...hint} /></p> : null}
      {fault ? <p class="fault" id={`${id}-fault`}><Text {...fault} /></p> : null}
    </div>
  );
}
