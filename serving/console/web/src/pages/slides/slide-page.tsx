// The page of one slide, filled by slide-viewer.ts. The viewer and OpenSeadragon are loaded when a slide is opened.

import { useEffect, useState } from "preact/hooks";
import { ErrorMessage } from "../../ui/feedback";
import { translate, Text } from "../../ui/i18n";

const KEYS: [string[], string, string][] = [
  [["+", "−", "0"], "zoom in, out, whole slide", "放大、缩小、全片"],
  [["←", "→", "↑", "↓"], "move", "移动"],
  [["h"], "heatmap on and off", "显示或隐藏热图"],
  [["[", "]"], "heatmap fainter, stronger", "热图变淡、变浓"],
  [["n", "p"], "next, previous evidence", "下一个、上一个证据"],
  [["?"], "this help", "本帮助"],
];

export function SlidePage({ id }: { id: string }) {
  const [failure, setFailure] = useState<unknown>(null);
  useEffect(() => {
    let unmounted = false;
    let stop = () => {};
    import("./slide-viewer").then(({ startViewer }) => { if (!unmounted) stop = startViewer(id); }, setFailure);
    return () => {
      unmounted = true;
      stop();
    };
  }, [id]);
  if (failure) return <main id="main"><ErrorMessage error={failure} retry={() => location.reload()} /></main>;
  return (
    <main id="main" class="slides viewer">
      <div class="slide-head">
        <a class="back" href="/console/slides"><span aria-hidden="true">←</span> <Text en="Worklist" zh="工作列表" /></a>
        <h1 id="accession" />
        <span id="specimen" />
        <span id="state" class="chip" role="status" aria-live="polite" />
        <nav id="downloads" class="downloads" aria-label={translate("Downloads", "下载")} />
        <button type="button" id="help-button" class="round" aria-label={translate("Keys", "快捷键")} aria-haspopup="dialog">?</button>
      </div>
      <div id="simulated" class="simulated" hidden />
      <div class="viewer-layout">
        <section class="stage" aria-label={translate("Slide", "切片")}>
          <div id="image" class="image" tabindex={0} role="application" aria-label={translate("Slide image: arrows move, plus and minus zoom", "切片图像：方向键移动，加减键缩放")} />
          <div id="waiting" class="waiting" aria-live="polite" />
          <div id="tools" class="tools" hidden>
            <div class="zooms">
              <button type="button" id="zoom-in" aria-label={translate("Zoom in", "放大")}>+</button>
              <button type="button" id="zoom-out" aria-label={translate("Zoom out", "缩小")}>−</button>
              <button type="button" id="home" aria-label={translate("Whole slide", "全片")}>⤢</button>
            </div>
            <div class="heat" id="heat-tools">
              <button type="button" id="heat" aria-pressed="true"><Text en="Heatmap" zh="热图" /></button>
              <label class="slider"><span class="hidden"><Text en="Opacity of the heatmap" zh="热图不透明度" /></span>
                <input type="range" id="opacity" min="0" max="100" step="5" defaultValue="60" /></label>
              <span class="scale-of-colours" aria-hidden="true"><i>0</i><b /><i>1</i></span>
            </div>
          </div>
          <div id="bar" class="bar" hidden><span /><b /></div>
          <div class="evidence" id="evidence" hidden>
            <h2><Text en="Evidence" zh="证据" /></h2>
            <ol id="evidence-list" />
          </div>
        </section>
        <section id="panel" class="panel" tabindex={0} aria-label={translate("Reading and report", "判读与报告")} />
      </div>
      <dialog id="help" aria-labelledby="help-title">
        <h2 id="help-title"><Text en="Keys" zh="快捷键" /></h2>
        <dl>
          <div id="focus-keys" class="keys-of-focus" hidden>
            <dt><kbd>PgUp</kbd> <kbd>PgDn</kbd> <kbd>f</kbd></dt><dd><Text en="focal plane up, down, sharpest; Shift and the mouse wheel too" zh="焦平面向上、向下、最清晰；亦可按住 Shift 滚动鼠标滚轮" /></dd>
          </div>
          {KEYS.map(([keys, en, zh]) => [<dt>{keys.map((key) => [<kbd>{key}</kbd>, " "])}</dt>, <dd><Text en={en} zh={zh} /></dd>])}
        </dl>
        <form method="dialog"><button class="main" autofocus><Text en="Close" zh="关闭" /></button></form>
      </dialog>
    </main>
  );
}
