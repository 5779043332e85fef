// The frame of every page: sign-in, header, the sections for the user's roles, the choice of language.

import { ErrorBoundary, lazy, LocationProvider, Route, Router, useLocation } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import { SECTIONS, sectionsFor } from "./routes";
import { ErrorMessage, Loading, Notice, NotFound } from "./ui/feedback";
import { setLanguage, language, translate, Text, type Language } from "./ui/i18n";
import { startSession, SessionDialog, signOut, currentUser, session, SignIn, SignOutError, type Session } from "./session";

const LANGUAGES: [Language, string, string][] = [["en", "EN", "en"], ["zh", "中文", "zh-CN"], ["both", "EN+中", "zh-CN"]];
const HOME = "/console";
const CrashPage = ({ error }: { error: unknown }) => <main id="main"><ErrorMessage error={error} retry={() => location.reload()} /></main>;
const PAGES = Object.fromEntries(SECTIONS.map((section) => [section.path, lazy(() => section.load().catch((error) => ({ default: () => <CrashPage error={error} /> })))]));

export function Console() {
  useEffect(() => {
    void startSession();
    addEventListener("hashchange", startSession); // a sign-in link opened in this tab
    return () => removeEventListener("hashchange", startSession);
  }, []);
  const user = session.value;
  return (
    <LocationProvider scope="/console">
      <a class="skip" href="#main"><Text en="Skip to content" zh="跳至正文" /></a>
      <Header user={currentUser()} />
      {user === undefined ? <main id="main"><Loading /></main>
        : user === null ? <SignIn />
        : user instanceof Error ? <main id="main"><ErrorMessage error={user} retry={user instanceof SignOutError ? signOut : () => startSession()} /></main>
        : <Sections user={user} />}
      <SessionDialog />
    </LocationProvider>
  );
}

function Header({ user }: { user: Session | null }) {
  const { path } = useLocation();
  useTitle(path);
  return (
    <header class="top">
      <a class="home" href="/console">玉衡 <span>Yuheng</span></a>
      <nav aria-label={translate("Pages", "页面")}>
        {sectionsFor(user?.roles ?? []).map((section) => (
          <a key={section.path} href={`/console/${section.path}`} aria-current={path.startsWith(`/console/${section.path}`) ? "page" : undefined}>
            <Text en={section.en} zh={section.zh} />
          </a>
        ))}
      </nav>
      <div class="languages" role="group" aria-label="Language 语言">
        {LANGUAGES.map(([code, name, lang]) => (
          <button key={code} type="button" data-choose={code} lang={lang} aria-pressed={language.value === code} onClick={() => setLanguage(code)}>{name}</button>
        ))}
      </div>
      {user && (user.tenant !== "local" || user.licence) ? (
        <div class="session">
          <span>{[user.tenant, user.name, user.licence].filter(Boolean).join(" · ")}</span>
          <button type="button" class="ghost" onClick={signOut}><Text en="Sign out" zh="退出" /></button>
        </div>
      ) : null}
    </header>
  );
}

// Sets the section's name as the title. A page may set a more specific one, which a change of language does not overwrite.
function useTitle(path: string) {
  const previous = useRef({ path: "", title: "" });
  const current = SECTIONS.find((section) => path.split("/")[2] === section.path);
  const title = current ? `${translate(current.en, current.zh)} · Yuheng 玉衡` : "Yuheng 玉衡";
  useEffect(() => {
    if (previous.current.path !== path || previous.current.title === document.title) document.title = title;
    previous.current = { path, title };
  }, [path, title]);
}

// Moves the focus to the new page, so that a screen reader announces it: to its heading, or to the whole page while there is none.
function focusHeading(): void {
  const main = document.getElementById("main");
  if (!main || main.contains(document.activeElement)) return;
  const heading = main.querySelector("h1");
  const target = heading?.textContent ? heading : main;
  target.tabIndex = -1;
  target.focus({ preventScroll: true });
}

function isDecodable(path: string): boolean {
  try {
    return !!decodeURIComponent(path);
  } catch {
    return false; // malformed percent-encoding
  }
}

function Sections({ user }: { user: Session }) {
  const sections = sectionsFor(user.roles);
  const { path } = useLocation();
  const [crash, setCrash] = useState<{ path: string; error: unknown } | null>(null); // the page that threw an exception
  const redirecting = useRef(path === HOME); // /console redirects to the first page, which is not a navigation
  const onRouteChange = (url: string) => {
    if (url === HOME) return;
    if (!redirecting.current) focusHeading();
    redirecting.current = false;
  };
  if (!isDecodable(path)) return <NotFoundPage />;
  if (!sections.length) {
    return <main id="main"><Notice title={["No pages available", "没有可用页面"]}><Text en="Your token has no role with access to this console." zh="您的令牌未获授予本控制台的任何角色。" /></Notice></main>;
  }
  if (crash?.path === path) return <CrashPage error={crash.error} />;
  return (
    <ErrorBoundary onError={(error) => setCrash({ path, error })}>
      <Router onRouteChange={onRouteChange}>
        {/* an area's two routes have one key, so that its page stays where its first tab is left */}
        {sections.map((section) => <Route key={section.path} path={`/console/${section.path}/*`} component={PAGES[section.path]!} />)}
        {sections.map((section) => <Route key={section.path} path={`/console/${section.path}`} component={PAGES[section.path]!} />)}
        <Route path={HOME} component={() => <Home to={`/console/${sections[0]!.path}`} />} />
        <Route default component={NotFoundPage} />
      </Router>
    </ErrorBoundary>
  );
}

function Home({ to }: { to: string }) {
  const { route } = useLocation();
  useEffect(() => route(to, true), [to]);
  return <main id="main"><Loading /></main>;
}

const NotFoundPage = () => <main id="main"><NotFound /></main>;
