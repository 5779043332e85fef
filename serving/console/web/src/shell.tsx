// What every page stands in: sign-in, header, the areas of the caller's roles, both languages.

import { ErrorBoundary, lazy, LocationProvider, Route, Router, useLocation } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import { AREAS, areasOf } from "./routes";
import { Failed, Loading, Notice, Nowhere } from "./ui/feedback";
import { choose, language, plain, Say, type Language } from "./ui/i18n";
import { begin, Between, end, person, session, SignIn, StillIn, type Session } from "./session";

const LANGUAGES: [Language, string, string][] = [["en", "EN", "en"], ["zh", "中文", "zh-CN"], ["both", "EN+中", "zh-CN"]];
const HOME = "/console";
const Broken = ({ error }: { error: unknown }) => <main id="main"><Failed error={error} again={() => location.reload()} /></main>;
const PAGES = Object.fromEntries(AREAS.map((area) => [area.path, lazy(() => area.load().catch((error) => ({ default: () => <Broken error={error} /> })))]));

export function Console() {
  useEffect(() => {
    void begin();
    addEventListener("hashchange", begin); // a link that signs in, given to the open page
    return () => removeEventListener("hashchange", begin);
  }, []);
  const who = session.value;
  return (
    <LocationProvider scope="/console">
      <a class="skip" href="#main"><Say en="To the page" zh="跳至正文" /></a>
      <Header who={person()} />
      {who === undefined ? <main id="main"><Loading /></main>
        : who === null ? <SignIn />
        : who instanceof Error ? <main id="main"><Failed error={who} again={who instanceof StillIn ? end : () => begin()} /></main>
        : <Areas who={who} />}
      <Between />
    </LocationProvider>
  );
}

function Header({ who }: { who: Session | null }) {
  const { path } = useLocation();
  useTitle(path);
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

// The area's name; a page may set a better one, which a change of language leaves.
function useTitle(path: string) {
  const before = useRef({ path: "", title: "" });
  const area = AREAS.find((each) => path.split("/")[2] === each.path);
  const title = area ? `${plain(area.en, area.zh)} · Yuheng 玉衡` : "Yuheng 玉衡";
  useEffect(() => {
    if (before.current.path !== path || before.current.title === document.title) document.title = title;
    before.current = { path, title };
  }, [path, title]);
}

// What is come to has the focus, which tells a screen reader of it: its heading, or all of it while it has none.
function focus(): void {
  const main = document.getElementById("main");
  if (!main || main.contains(document.activeElement)) return;
  const heading = main.querySelector("h1");
  const place = heading?.textContent ? heading : main;
  place.tabIndex = -1;
  place.focus({ preventScroll: true });
}

function readable(path: string): boolean {
  try {
    return !!decodeURIComponent(path);
  } catch {
    return false; // a % that stands for nothing
  }
}

function Areas({ who }: { who: Session }) {
  const mine = areasOf(who.roles);
  const { path } = useLocation();
  const [broken, setBroken] = useState<{ path: string; error: unknown } | null>(null); // a page that threw
  const first = useRef(path === HOME); // /console leads on: what it leads to is the first page
  const moved = (url: string) => {
    if (url === HOME) return;
    if (!first.current) focus();
    first.current = false;
  };
  if (!readable(path)) return <NotFound />;
  if (!mine.length) {
    return <main id="main"><Notice title={["No pages for you", "没有可用页面"]}><Say en="Your token has no role that has pages here." zh="您的令牌没有可使用本控制台的角色。" /></Notice></main>;
  }
  if (broken?.path === path) return <Broken error={broken.error} />;
  return (
    <ErrorBoundary onError={(error) => setBroken({ path, error })}>
      <Router onRouteChange={moved}>
        {/* an area's two routes have one key, so that its page stays where its first tab is left */}
        {mine.map((area) => <Route key={area.path} path={`/console/${area.path}/*`} component={PAGES[area.path]!} />)}
        {mine.map((area) => <Route key={area.path} path={`/console/${area.path}`} component={PAGES[area.path]!} />)}
        <Route path={HOME} component={() => <Home to={`/console/${mine[0]!.path}`} />} />
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

const NotFound = () => <main id="main"><Nowhere /></main>;
