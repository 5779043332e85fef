// What every page stands in: sign-in, header, the areas of the caller's roles, both languages.

import { ErrorBoundary, lazy, LocationProvider, Route, Router, useLocation } from "preact-iso";
import { useEffect } from "preact/hooks";
import { AREAS, areasOf } from "./areas";
import { Failed, Loading, Notice } from "./kit/state";
import { choose, language, plain, Say, type Language } from "./kit/words";
import { begin, end, session, SignIn, type Session } from "./session";

const LANGUAGES: [Language, string, string][] = [["en", "EN", "en"], ["zh", "中文", "zh-CN"], ["both", "EN+中", "zh-CN"]];
const PAGES = Object.fromEntries(AREAS.map((area) => [area.path, lazy(area.load)]));

export function Console() {
  useEffect(() => void begin(), []);
  const who = session.value;
  return (
    <LocationProvider scope="/console">
      <a class="skip" href="#main"><Say en="To the page" zh="跳至正文" /></a>
      <Header who={who && !(who instanceof Error) ? who : null} />
      {who === undefined ? <main id="main"><Loading /></main>
        : who === null ? <SignIn />
        : who instanceof Error ? <main id="main"><Failed error={who} again={begin} /></main>
        : <Areas who={who} />}
    </LocationProvider>
  );
}

function Header({ who }: { who: Session | null }) {
  const { path } = useLocation();
  return (
    <header class="top">
      <a class="home" href="/console">玉衡 <span>Yuheng</span></a>
      <nav aria-label={plain("Pages", "页面")}>
        {areasOf(who?.roles ?? []).map((area) => (
          <a key={area.path} href={`/console/${area.path}`} aria-current={path.startsWith(`/console/${area.path}`) ? "page" : undefined}>
            <Say en={area.en} zh={area.zh} />
          </a>
        ))}
      </nav>
      <div class="languages" role="group" aria-label="Language 语言">
        {LANGUAGES.map(([code, text, lang]) => (
          <button key={code} type="button" data-choose={code} lang={lang} aria-pressed={language.value === code} onClick={() => choose(code)}>{text}</button>
        ))}
      </div>
      {who && (who.tenant !== "local" || who.licence) ? (
        <div class="session">
          <span>{[who.tenant, who.name, who.licence].filter(Boolean).join(" · ")}</span>
          <button type="button" class="ghost" onClick={end}><Say en="Sign out" zh="退出" /></button>
        </div>
      ) : null}
    </header>
  );
}

function Areas({ who }: { who: Session }) {
  const mine = areasOf(who.roles);
  if (!mine.length) {
    return <main id="main"><Notice title={["No pages for you", "没有可用页面"]}><Say en="Your token has no role that has pages here." zh="您的令牌没有可使用本控制台的角色。" /></Notice></main>;
  }
  return (
    <ErrorBoundary onError={(error) => console.error(error)}>
      <Router>
        {mine.map((area) => <Route key={area.path} path={`/console/${area.path}/*`} component={PAGES[area.path]!} />)}
        {mine.map((area) => <Route key={`${area.path}-home`} path={`/console/${area.path}`} component={PAGES[area.path]!} />)}
        <Route path="/console" component={() => <Home to={`/console/${mine[0]!.path}`} />} />
        <Route default component={NotFound} />
      </Router>
    </ErrorBoundary>
  );
}

function Home({ to }: { to: string }) {
  const { route } = useLocation();
  useEffect(() => route(to, true), [to]);
  return <main id="main"><Loading /></main>;
}

function NotFound() {
  return (
    <main id="main">
      <Notice title={["There is no such page for you", "没有此页面，或您无权查看"]}>
        <a class="button" href="/console"><Say en="To your pages" zh="返回首页" /></a>
      </Notice>
    </main>
  );
}
