// Who is signed in. The token is in a cookie that no script reads; here is only what the service says of it.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, between, named, Refused, shows, type Person } from "./ui/api";
import { Failed } from "./ui/feedback";
import { Say } from "./ui/i18n";

export interface Session extends Person {
  roles: string[];
}

// undefined until asked; null: a stranger; Error: the service could not say.
export const session = signal<Session | null | undefined | Error>(undefined);

session.subscribe((who) => shows(who instanceof Error ? null : who ?? null));

export const person = (): Session | null => (session.value instanceof Error ? null : session.value ?? null);

// The cookie may still be there: the network was gone when it should go.
export class StillIn extends Refused {}

// A link that signs in carries the token behind #, which a browser sends nowhere; it is taken out of the address at once.
function taken(): string {
  const found = /^#token=(.*)$/.exec(location.hash);
  if (found) history.replaceState(null, "", location.pathname + location.search);
  return found?.[1] ?? "";
}

// `event`: the address of the open page changed behind its #.
export async function begin(event?: Event): Promise<void> {
  const given = taken();
  if (event && !given) return;
  try {
    enter(given ? await signIn(given) : await ask<Session>("/v1/session"));
  } catch (error) {
    if (!person()) session.value = error instanceof Refused && error.status === 401 ? null : (error as Error);
  }
}

const signIn = (token: string) => ask<Session>("/v1/session", { body: { token } });

// What one person typed does not go on under another's name.
function enter(they: Session): void {
  const before = person();
  if (before && named(before) !== named(they)) location.reload();
  else session.value = they;
}

export async function end(): Promise<void> {
  try {
    await ask("/v1/session", { method: "DELETE" });
    session.value = null;
  } catch (error) {
    const { detail = "", detail_zh = "" } = error instanceof Refused ? error.problem : {};
    session.value = new StillIn(0, {
      title: "You are not signed out", title_zh: "尚未退出登录",
      detail: `Your pages are hidden, but this browser still keeps your session. ${detail}`,
      detail_zh: `页面已隐藏，但本浏览器仍保留您的会话。${detail_zh}`,
    });
  }
}

export function SignIn() {
  return (
    <main class="sign-in" id="main">
      <div class="card">
        <p class="brand" aria-hidden="true">玉衡 <span>Yuheng</span></p>
        <h1><Say en="Sign in" zh="登录" /></h1>
        <TokenForm id="token" />
      </div>
    </main>
  );
}

// Over a page whose session ended, or whose browser now has another's.
export function Between() {
  const box = useRef<HTMLDialogElement>(null);
  const came = between.value;
  const who = person();
  useEffect(() => {
    if (came) box.current?.showModal();
    else box.current?.close();
  }, [came]);
  const away = () => { between.value = null; };
  return (
    <dialog class="between" ref={box} aria-labelledby="between" onCancel={away}>
      {came === "ended" ? (
        <>
          <h1 id="between"><Say en="Your session has ended" zh="会话已结束" /></h1>
          <p><Say en={`What you typed is still there. Sign in again as ${who?.name || who?.who} and go on; for anybody else the page is loaded anew.`}
            zh={`已填写的内容仍在。请以 ${who?.name || who?.who} 重新登录后继续；以他人身份登录将重新加载页面。`} /></p>
          <TokenForm id="token-again" />
        </>
      ) : came ? (
        <>
          <h1 id="between"><Say en="Another person has signed in in this browser" zh="本浏览器已由他人登录" /></h1>
          <p><Say en={`This page is of ${who?.name || who?.who}. Nothing was done. What you typed is still there; it is lost when the page is loaded anew.`}
            zh={`本页面属于 ${who?.name || who?.who}。未执行任何操作。已填写的内容仍在，重新加载后将丢失。`} /></p>
          <p class="actions">
            <button type="button" class="main" onClick={() => location.reload()}><Say en="Load the page anew" zh="重新加载页面" /></button>
            <button type="button" onClick={away}><Say en="Back to what I typed" zh="返回查看已填内容" /></button>
          </p>
        </>
      ) : null}
    </dialog>
  );
}

function TokenForm({ id }: { id: string }) {
  const [token, setToken] = useState("");
  const [failed, setFailed] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setFailed(null);
    try {
      enter(await signIn(token.trim()));
    } catch (error) {
      setFailed(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="stack" onSubmit={submit}>
      <label for={id}><Say en="Your token" zh="您的令牌" /></label>
      <input id={id} type="password" required autocomplete="off" spellcheck={false} value={token} onInput={(event) => setToken(event.currentTarget.value)} />
      <button class="main" type="submit" disabled={busy}><Say en="Sign in" zh="登录" /></button>
      <p class="quiet"><Say en="Your operator gives you one. It is kept in a cookie that no script can read, until it ends or you sign out." zh="令牌由管理员发放，保存于脚本无法读取的 Cookie，直至到期或退出登录。" /></p>
      <div aria-live="polite">{failed ? <Failed error={failed} /> : null}</div>
    </form>
  );
}
