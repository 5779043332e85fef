// The focus wheel of a slide with several focal planes: buttons, a slider, keys and the mouse wheel step through them.

import { bilingual, byId, createElement } from "./dom";
import { translate } from "../../ui/i18n";
import type { SlideImage } from "./slide-image";
import type { Reading } from "./types";

const WHEEL_STEP = 60; // units of wheel movement per plane; touch pads send many small ones

export class FocusControl {
  private plane: number | null = null; // from 1 at the glass; null: each tile in its sharpest
  private wheel = 0;
  private readonly slider = createElement("input", { type: "range", id: "focus", min: 1, max: 1, step: 1 });
  private readonly position = createElement("output", { id: "focus-position", for: "focus", "aria-live": "polite" });
  private readonly sharpest = createElement("button", { type: "button", id: "focus-sharpest" }, bilingual("Sharpest", "最清晰"));

  constructor(private readonly image: SlideImage, private readonly planes: number, private readonly spacing: number | null) {}

  // The control of the slide; null where it has a single plane.
  static add(image: SlideImage, { slide }: Reading, signal: AbortSignal): FocusControl | null {
    if ((slide.planes ?? 1) < 2) return null;
    const control = new FocusControl(image, slide.planes!, slide.plane_spacing ?? null);
    control.show(signal);
    return control;
  }

  step(count: number): void {
    const start = this.plane ?? this.middle();
    this.set(Math.min(this.planes, Math.max(1, start + count)));
  }

  set(plane: number | null): void {
    this.plane = plane;
    this.image.setPlane(plane);
    this.render();
  }

  private show(signal: AbortSignal): void {
    const step = (id: string, count: number, text: string, label: string) =>
      createElement("button", { type: "button", id, "aria-label": label, onclick: () => this.step(count) }, text);
    this.slider.max = String(this.planes);
    this.slider.addEventListener("input", () => this.set(this.slider.valueAsNumber));
    this.slider.setAttribute("aria-label", translate("Focal plane", "焦平面"));
    this.sharpest.addEventListener("click", () => this.set(null));
    const box = createElement("div.focus", { id: "focus-tools", role: "group", "aria-label": translate("Focus", "调焦") },
      createElement("div.row", {}, bilingual("Focus", "调焦"), step("focus-down", -1, "▾", translate("Nearer to the glass", "向玻片方向")), step("focus-up", 1, "▴", translate("Further from the glass", "离开玻片方向"))),
      this.slider, this.position, this.sharpest);
    byId("tools").append(box);
    const turn = (event: WheelEvent) => {
      event.preventDefault();
      event.stopPropagation();
      this.turn(event.deltaY || event.deltaX); // with Shift some systems report the movement as horizontal
    };
    box.addEventListener("wheel", turn, { passive: false, signal });
    byId("image").addEventListener("wheel", (event) => { if (event.shiftKey) turn(event); }, { passive: false, capture: true, signal });
    byId("focus-keys").hidden = false;
    this.render();
  }

  private turn(movement: number): void {
    this.wheel = Math.sign(movement) === Math.sign(this.wheel) ? this.wheel + movement : movement;
    if (Math.abs(this.wheel) < WHEEL_STEP) return;
    this.step(-Math.sign(this.wheel));
    this.wheel = 0;
  }

  private middle(): number {
    return Math.floor(this.planes / 2) + 1;
  }

  private render(): void {
    const { plane, planes, spacing } = this;
    this.sharpest.setAttribute("aria-pressed", String(plane === null));
    this.slider.value = String(plane ?? this.middle());
    const height = plane === null || !spacing ? "" : ` (${plane === this.middle() ? "±" : plane > this.middle() ? "+" : "−"}${Number((Math.abs(plane - this.middle()) * spacing).toFixed(2))} µm)`;
    const [en, zh] = plane === null
      ? [`sharpest of ${planes} planes`, `${planes} 个平面中最清晰者`]
      : [`plane ${plane} of ${planes}${height}`, `第 ${plane} / ${planes} 平面${height}`];
    this.slider.setAttribute("aria-valuetext", translate(en, zh));
    this.position.replaceChildren(bilingual(en, zh));
  }
}
