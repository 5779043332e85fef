// Who is signed in. The token is in a cookie that no script reads; here is only what the service says of it.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { ask, Refused } from "./kit/api";
import { Failed } from "./kit/state";
import { Say } from "./kit/words";

export interface Session {
  tenant: string;
  roles: string[];
  who: string;
  name: string;
  licence: string;
}

// undefined until asked; null: a stranger; Error: the service could not say.
export const session = signal<Session | null | undefined | Error>(undefined);

// A link that signs in carries the token behind #, which a browser sends nowhere; it is taken out of the address at once.
export async function begin(): Promise<void> {
  const given = /^#token=([\w.-]+)$/.exec(location.hash)?.[1];
  if (given) history.replaceState(null, "", location.pathname + location.search);
  try {
    session.value = given ? await signIn(given) : await ask<Session>("/v1/session");
  } catch (error) {
    session.value = error instanceof Refused && error.status === 401 ? null : (error as Error);
  }
}

const signIn = (token: string) => ask<Session>("/v1/session", { body: { token } });

export async function end(): Promise<void> {
  await ask("/v1/session", { method: "DELETE" });
  session.value = null;
}

export function SignIn() {
  const [token, setToken] = useState("");
  const [failed, setFailed] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setFailed(null);
    try {
      session.value = await signIn(token.trim());
    } catch (error) {
      setFailed(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="sign-in" id="main">
      <form class="card" onSubmit={submit}>
        <p class="brand" aria-hidden="true">玉衡 <span>Yuheng</span></p>
        <h1><Say en="Sign in" zh="登录" /></h1>
        <label for="token"><Say en="Your token" zh="您的令牌" /></label>
        <input id="token" type="password" required autocomplete="off" spellcheck={false} value={token} onInput={(event) => setToken(event.currentTarget.value)} />
        <button class="main" type="submit" disabled={busy}><Say en="Sign in" zh="登录" /></button>
        <p class="quiet"><Say en="Your operator gives you one. It is kept in a cookie that no script can read, until it ends or you sign out." zh="令牌由管理员发放，保存于脚本无法读取的 Cookie，直至到期或退出登录。" /></p>
        <div aria-live="polite">{failed ? <Failed error={failed} /> : null}</div>
      </form>
    </main>
  );
}
