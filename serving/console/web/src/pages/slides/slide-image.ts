// The slide image: OpenSeadragon with the heatmap overlay, the scale bar and the outlined evidence.

import OpenSeadragon from "openseadragon";
import { byId } from "./dom";
import type { Reading, Region } from "./types";

const TILE_PX = 256;
const SCALE_BAR_STEPS = [1, 2, 5];
const SCALE_BAR_MAX_PX = 160;
const MARGIN = 0.25; // around a region in its thumbnail, as a fraction of the region

export class SlideImage {
  heatmapVisible = true;
  opacity = 0.6;
  selected = -1; // index of the selected evidence
  tiledImage: OpenSeadragon.TiledImage | null = null; // null until the slide can be seen
  plane: number | null = null; // focal plane, from 1; null: each tile in its sharpest
  private arriving: OpenSeadragon.TiledImage | null = null; // another plane, while its tiles load
  private viewer!: OpenSeadragon.Viewer; // set by open()
  private heatmap: OpenSeadragon.TiledImage | null = null;
  private readonly baseUrl: string;

  constructor(slideId: string, private reading: Reading | null, private readonly onSelect: (index: number) => void = () => {}) {
    this.baseUrl = `/v1/slides/${slideId}`;
  }

  // Resolves when the slide can be seen.
  open(element: HTMLElement): Promise<void> {
    // OpenSeadragon writes a style element unless one with this mark exists; the page's policy only allows an empty one.
    if (!document.querySelector("style[data-openseadragon-mobile-css]")) {
      const style = document.createElement("style");
      style.setAttribute("data-openseadragon-mobile-css", "true");
      document.head.append(style);
    }
    this.viewer = OpenSeadragon({
      element, drawer: "canvas", showNavigationControl: false, showNavigator: true, navigatorPosition: "TOP_RIGHT",
      navigatorSizeRatio: 0.14, maxZoomPixelRatio: 8, visibilityRatio: 0.4, animationTime: 0.5, minZoomImageRatio: 0.7,
      gestureSettingsMouse: { clickToZoom: false }, preserveImageSizeOnResize: true, preload: true,
    });
    this.viewer.addHandler("canvas-key", (event) => {
      event.preventDefaultAction = true; // the page has its own keys
    });
    this.viewer.addHandler("update-viewport", () => this.drawScaleBar());
    this.viewer.addHandler("resize", () => this.drawScaleBar());
    return new Promise((resolve, reject) => {
      this.viewer.addTiledImage({
        tileSource: `${this.baseUrl}/image.dzi`,
        success: (event: unknown) => {
          this.tiledImage = (event as { item: OpenSeadragon.TiledImage }).item;
          this.viewer.viewport.goHome(true);
          resolve();
        },
        error: (event: unknown) => reject(new Error((event as { message: string }).message)),
      });
    });
  }

  close(): void {
    this.viewer?.destroy();
  }

  // Shows another focal plane in the same place. The one before stays below it until its tiles are here.
  setPlane(plane: number | null): void {
    if (plane === this.plane || !this.tiledImage) return;
    this.plane = plane;
    this.viewer.addTiledImage({
      tileSource: this.address("image.dzi", plane), index: 1,
      success: (event: unknown) => {
        const image = (event as { item: OpenSeadragon.TiledImage }).item;
        if (this.plane !== plane) {
          this.viewer.world.removeItem(image);
          return;
        }
        if (this.arriving) this.viewer.world.removeItem(this.arriving);
        this.arriving = image;
        const finish = (): void => {
          if (this.arriving !== image || !image.getFullyLoaded()) return;
          this.viewer.world.removeItem(this.tiledImage!);
          [this.tiledImage, this.arriving] = [image, null];
        };
        image.addHandler("fully-loaded-change", finish);
        finish();
      },
    });
  }

  showReading(reading: Reading): void {
    this.reading = reading;
    this.viewer.addTiledImage({
      tileSource: `${this.baseUrl}/heatmap.dzi`, opacity: this.heatmapVisible ? this.opacity : 0,
      success: (event: unknown) => {
        this.heatmap = (event as { item: OpenSeadragon.TiledImage }).item;
        this.setHeatmap(this.heatmapVisible, this.opacity);
      },
      error: () => { byId("heat-tools").hidden = true; },
    });
    reading.evidence.forEach((region, index) => {
      const mark = document.createElement("button");
      mark.type = "button";
      mark.className = "evidence-mark";
      mark.dataset.index = String(index);
      mark.tabIndex = -1;
      mark.setAttribute("aria-label", `${index + 1} ${region.code}`);
      const label = document.createElement("span");
      label.textContent = String(index + 1);
      mark.append(label);
      this.viewer.addOverlay({ element: mark, location: this.viewportRect(region) });
      new OpenSeadragon.MouseTracker({ element: mark, clickHandler: () => this.select(index) });
    });
  }

  // Selects a piece of evidence and zooms to it; indices beyond either end wrap around.
  select(index: number): void {
    const regions = this.reading?.evidence ?? [];
    if (!regions.length) return;
    this.selected = (index + regions.length) % regions.length;
    const { x, y, width, height } = regions[this.selected]!;
    this.viewer.viewport.fitBounds(this.viewportRect({ x: x - 2 * width, y: y - 2 * height, width: 5 * width, height: 5 * height }), reducedMotion());
    for (const mark of document.querySelectorAll<HTMLElement>(".evidence-mark")) {
      mark.classList.toggle("selected", Number(mark.dataset.index) === this.selected);
    }
    this.onSelect(this.selected);
  }

  setHeatmap(visible: boolean, opacity: number): void {
    this.heatmapVisible = visible;
    this.opacity = Math.min(1, Math.max(0, opacity));
    this.heatmap?.setOpacity(visible ? this.opacity : 0);
  }

  zoomBy(factor: number): void {
    this.viewer.viewport.zoomBy(factor, undefined, reducedMotion());
    this.viewer.viewport.applyConstraints(reducedMotion());
  }

  // Moves by sixths of the visible part.
  panBy(x: number, y: number): void {
    const { width, height } = this.viewer.viewport.getBounds();
    this.viewer.viewport.panBy(new OpenSeadragon.Point((x * width) / 6, (y * height) / 6), reducedMotion());
    this.viewer.viewport.applyConstraints(reducedMotion());
  }

  goHome(): void {
    this.viewer.viewport.goHome(reducedMotion());
  }

  // The longest bar of 1, 2 or 5 times a power of ten that fits; no bar where the scale is unknown.
  drawScaleBar(): void {
    const mpp = Math.min(...(this.reading?.slide.mpp ?? [0])); // of the displayed pixels, which are square
    if (!mpp || !this.tiledImage) return;
    const bar = byId("bar");
    const zoom = this.tiledImage.viewportToImageZoom(this.viewer.viewport.getZoom(true)); // screen pixels per slide pixel
    const maxUm = (SCALE_BAR_MAX_PX * mpp) / zoom;
    const power = 10 ** Math.floor(Math.log10(maxUm));
    const um = power * SCALE_BAR_STEPS.filter((step) => step * power <= maxUm).at(-1)!;
    bar.hidden = false;
    bar.querySelector("b")!.style.width = `${(um / mpp) * zoom}px`;
    bar.querySelector("span")!.textContent = um >= 1000 ? `${um / 1000} mm` : `${um} µm`;
    bar.dataset.um = String(um);
  }

  // Draws a region with a margin around it, assembled from the full-resolution tiles that the viewer requests too.
  async drawThumbnail({ x, y, width: regionWidth, height: regionHeight }: Region, canvas: HTMLCanvasElement): Promise<void> {
    const size = this.tiledImage!.getContentSize();
    const [stretchX, stretchY] = this.stretch();
    const region = { x: x * stretchX, y: y * stretchY, width: regionWidth * stretchX, height: regionHeight * stretchY };
    const left = region.x - region.width * MARGIN;
    const top = region.y - region.height * MARGIN;
    const width = region.width * (1 + 2 * MARGIN);
    const height = region.height * (1 + 2 * MARGIN);
    const level = Math.ceil(Math.log2(Math.max(size.x, size.y, 1)));
    const scale = canvas.width / width;
    const context = canvas.getContext("2d")!;
    const loads: Promise<void>[] = [];
    for (let column = Math.max(0, Math.floor(left / TILE_PX)); column * TILE_PX < Math.min(left + width, size.x); column += 1) {
      for (let row = Math.max(0, Math.floor(top / TILE_PX)); row * TILE_PX < Math.min(top + height, size.y); row += 1) {
        const image = new Image();
        image.src = this.address(`image_files/${level}/${column}_${row}.jpeg`, this.reading?.slide.plane);
        loads.push(image.decode().then(() => {
          context.drawImage(image, (column * TILE_PX - left) * scale, (row * TILE_PX - top) * scale,
            image.naturalWidth * scale, image.naturalHeight * scale);
        }));
      }
    }
    await Promise.all(loads);
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.strokeRect((region.x - left) * scale, (region.y - top) * scale, region.width * scale, region.height * scale);
  }

  private viewportRect({ x, y, width, height }: Pick<Region, "x" | "y" | "width" | "height">): OpenSeadragon.Rect {
    const [stretchX, stretchY] = this.stretch();
    return this.tiledImage!.imageToViewportRectangle(x * stretchX, y * stretchY, width * stretchX, height * stretchY);
  }

  // Displayed pixels per pixel of the slide: pixels that are not square are displayed at their true proportions.
  private stretch(): [number, number] {
    const slide = this.reading?.slide;
    if (!slide?.width || !this.tiledImage) return [1, 1];
    const { x, y } = this.tiledImage.getContentSize();
    return [x / slide.width, y / slide.height];
  }

  private address(path: string, plane: number | null | undefined): string {
    return `${this.baseUrl}/${path}${plane ? `?plane=${plane}` : ""}`;
  }
}

// Readers who ask their system for no motion get none.
function reducedMotion(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
