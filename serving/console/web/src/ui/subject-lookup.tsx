// One field that leads to a stored subject's page.

import { useLocation } from "preact-iso";
import { useId, useState } from "preact/hooks";
import { plain, Say } from "./i18n";

export function LookUp({ name, label, hint, to }: {
  name: string; // of the field
  label: readonly [string, string];
  hint: readonly [string, string];
  to: string; // the address before the subject's id
}) {
  const [id, setId] = useState("");
  const field = `${name}-${useId()}`;
  const { route } = useLocation();
  const go = (event: Event) => {
    event.preventDefault();
    if (id.trim()) route(`${to}/${encodeURIComponent(id.trim())}`);
  };
  return (
    <form class="actions look-up" role="search" onSubmit={go}>
      <label for={field}><Say en={label[0]} zh={label[1]} /></label>
      <input id={field} name={name} class="short" value={id} maxLength={255} autocomplete="off" placeholder={plain(...hint)} onInput={(event) => setId(event.currentTarget.value)} />
      <button type="submit"><Say en="Look up" zh="查询" /></button>
    </form>
  );
}
