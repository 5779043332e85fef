// A search field that opens the page of a stored subject.

import { useLocation } from "preact-iso";
import { useId, useState } from "preact/hooks";
import { translate, Text, type Bilingual } from "./i18n";

export function SubjectLookup({ name, label, hint, basePath }: {
  name: string; // of the input
  label: Bilingual;
  hint: Bilingual;
  basePath: string; // path to which the subject's id is appended
}) {
  const [id, setId] = useState("");
  const inputId = `${name}-${useId()}`;
  const { route } = useLocation();
  const submit = (event: Event) => {
    event.preventDefault();
    if (id.trim()) route(`${basePath}/${encodeURIComponent(id.trim())}`);
  };
  return (
    <form class="actions subject-lookup" role="search" onSubmit={submit}>
      <label for={inputId}><Text en={label[0]} zh={label[1]} /></label>
      <input id={inputId} name={name} class="short" value={id} maxLength={255} autocomplete="off" placeholder={translate(...hint)} onInput={(event) => setId(event.currentTarget.value)} />
      <button type="submit"><Text en="Look up" zh="查询" /></button>
    </form>
  );
}
