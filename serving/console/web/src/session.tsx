// The session. The token itself is in an HttpOnly cookie; scripts only see what the service reports about it.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { fetchJson, sessionInterruption, personKey, ApiError, setPerson, type Person } from "./ui/api";
import { ErrorMessage } from "./ui/feedback";
import { Text } from "./ui/i18n";

export interface Session extends Person {
  roles: string[];
}

// undefined: not loaded yet; null: not signed in; Error: the service could not be asked.
export const session = signal<Session | null | undefined | Error>(undefined);

session.subscribe((value) => setPerson(value instanceof Error ? null : value ?? null));

export const currentUser = (): Session | null => (session.value instanceof Error ? null : session.value ?? null);

// Signing out failed, for example for want of a network: the cookie may still exist.
export class SignOutError extends ApiError {}

// A sign-in link carries the token in the fragment, which browsers do not send; it is removed from the address at once.
function takeUrlToken(): string {
  const match = /^#token=(.*)$/.exec(location.hash);
  if (match) history.replaceState(null, "", location.pathname + location.search);
  return match?.[1] ?? "";
}

// `event`: the fragment of the open page's address has changed.
export async function startSession(event?: Event): Promise<void> {
  const token = takeUrlToken();
  if (event && !token) return;
  try {
    applySession(token ? await signIn(token) : await fetchJson<Session>("/v1/session"));
  } catch (error) {
    if (!currentUser()) session.value = error instanceof ApiError && error.status === 401 ? null : (error as Error);
  }
}

const signIn = (token: string) => fetchJson<Session>("/v1/session", { body: { token } });

// One person's input must not be sent under another person's name, so the page is reloaded.
function applySession(next: Session): void {
  const current = currentUser();
  if (current && personKey(current) !== personKey(next)) location.reload();
  else session.value = next;
}

export async function signOut(): Promise<void> {
  try {
    await fetchJson("/v1/session", { method: "DELETE" });
    session.value = null;
  } catch (error) {
    const { detail = "", detail_zh = "" } = error instanceof ApiError ? error.problem : {};
    session.value = new SignOutError(0, {
      title: "You are not signed out", title_zh: "尚未退出登录",
      detail: `Your pages are hidden, but the session still exists in this browser. ${detail}`,
      detail_zh: `页面已隐藏，但本浏览器仍保留您的会话。${detail_zh}`,
    });
  }
}

export function SignIn() {
  return (
    <main class="sign-in" id="main">
      <div class="card">
        <p class="brand" aria-hidden="true">玉衡 <span>Yuheng</span></p>
        <h1><Text en="Sign in" zh="登录" /></h1>
        <TokenForm id="token" />
      </div>
    </main>
  );
}

// Shown over a page whose session has ended, or whose browser now holds another person's session.
export function SessionDialog() {
  const dialogRef = useRef<HTMLDialogElement>(null);
  const interruption = sessionInterruption.value;
  const user = currentUser();
  useEffect(() => {
    if (interruption) dialogRef.current?.showModal();
    else dialogRef.current?.close();
  }, [interruption]);
  const dismiss = () => { sessionInterruption.value = null; };
  return (
    <dialog class="session-dialog" ref={dialogRef} aria-labelledby="session-dialog-title" onCancel={dismiss}>
      {interruption === "ended" ? (
        <>
          <h1 id="session-dialog-title"><Text en="Your session has ended" zh="会话已结束" /></h1>
          <p><Text en={`Your input is still there. Sign in again as ${user?.name || user?.who} to continue; for another person the page is reloaded.`}
            zh={`已填写的内容仍在。请以 ${user?.name || user?.who} 的身份重新登录后继续；以他人身份登录将重新加载页面。`} /></p>
          <TokenForm id="token-again" />
        </>
      ) : interruption ? (
        <>
          <h1 id="session-dialog-title"><Text en="Another person has signed in with this browser" zh="本浏览器已由他人登录" /></h1>
          <p><Text en={`This page belongs to ${user?.name || user?.who}. No action was performed. Your input is still there but will be lost when the page is reloaded.`}
            zh={`本页面属于 ${user?.name || user?.who}。未执行任何操作。已填写的内容仍在，重新加载后将丢失。`} /></p>
          <p class="actions">
            <button type="button" class="main" onClick={() => location.reload()}><Text en="Reload the page" zh="重新加载页面" /></button>
            <button type="button" onClick={dismiss}><Text en="Back to my input" zh="返回查看已填内容" /></button>
          </p>
        </>
      ) : null}
    </dialog>
  );
}

function TokenForm({ id }: { id: string }) {
  const [token, setToken] = useState("");
  const [failure, setFailure] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setFailure(null);
    try {
      applySession(await signIn(token.trim()));
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="stack" onSubmit={submit}>
      <label for={id}><Text en="Token" zh="令牌" /></label>
      <input id={id} type="password" required autocomplete="off" spellcheck={false} value={token} onInput={(event) => setToken(event.currentTarget.value)} />
      <button class="main" type="submit" disabled={busy}><Text en="Sign in" zh="登录" /></button>
      <p class="quiet"><Text en="Issued by your operator. It is stored in a cookie that scripts cannot read, until it expires or you sign out." zh="令牌由管理员发放，保存于脚本无法读取的 Cookie 中，直至到期或退出登录。" /></p>
      <div aria-live="polite">{failure ? <ErrorMessage error={failure} /> : null}</div>
    </form>
  );
}
