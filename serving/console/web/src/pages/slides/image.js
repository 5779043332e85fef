// The slide on the screen: OpenSeadragon with a heatmap over it, a scale bar, outlined evidence.

import OpenSeadragon from "openseadragon";

const NICE = [1, 2, 5];

export class SlideImage {
  constructor(slide, reading, { spotted = () => {} } = {}) {
    this.reading = reading;
    this.base = `/v1/slides/${slide}`;
    this.opacity = 0.6;
    this.heatOn = true;
    this.chosen = -1;
    this.spotted = spotted;
  }

  // Resolves when the slide is there to be seen.
  open(element) {
    // It would write a style element, were there none of this mark yet; the page's policy allows none but an empty one.
    if (!document.querySelector("style[data-openseadragon-mobile-css]")) {
      const mark = document.createElement("style");
      mark.setAttribute("data-openseadragon-mobile-css", "true");
      document.head.append(mark);
    }
    this.viewer = OpenSeadragon({
      element, drawer: "canvas", showNavigationControl: false, showNavigator: true, navigatorPosition: "TOP_RIGHT",
      navigatorSizeRatio: 0.14, maxZoomPixelRatio: 8, visibilityRatio: 0.4, animationTime: 0.5, minZoomImageRatio: 0.7,
      gestureSettingsMouse: { clickToZoom: false }, preserveImageSizeOnResize: true, preload: true,
    });
    this.viewer.addHandler("canvas-key", (event) => {
      event.preventDefaultAction = true; // the page has its own keys
    });
    this.viewer.addHandler("update-viewport", () => this.drawBar());
    this.viewer.addHandler("resize", () => this.drawBar());
    return new Promise((resolve, reject) => {
      this.viewer.addTiledImage({
        tileSource: `${this.base}/image.dzi`,
        success: ({ item }) => {
          this.image = item;
          this.size = item.getContentSize();
          this.viewer.viewport.goHome(true);
          resolve(this);
        },
        error: ({ message }) => reject(new Error(message)),
      });
    });
  }

  close() {
    this.viewer?.destroy();
  }

  showReading(reading) {
    this.reading = reading;
    this.viewer.addTiledImage({
      tileSource: `${this.base}/heatmap.dzi`, opacity: this.heatOn ? this.opacity : 0, index: 1,
      success: ({ item }) => {
        this.heat = item;
        this.setHeat(this.heatOn, this.opacity);
      },
      error: () => document.querySelector("#heat-tools").setAttribute("hidden", ""),
    });
    reading.evidence.forEach((spot, at) => {
      const mark = document.createElement("button");
      mark.type = "button";
      mark.className = "spot";
      mark.dataset.at = at;
      mark.tabIndex = -1;
      mark.setAttribute("aria-label", `${at + 1} ${spot.code}`);
      const label = document.createElement("span");
      label.textContent = at + 1;
      mark.append(label);
      this.viewer.addOverlay({ element: mark, location: this.rectangle(spot) });
      new OpenSeadragon.MouseTracker({ element: mark, clickHandler: () => this.jump(at) });
    });
  }

  rectangle({ x, y, width, height }) {
    return this.image.imageToViewportRectangle(x, y, width, height);
  }

  jump(at) {
    const spots = this.reading ? this.reading.evidence : [];
    if (!spots.length) return;
    this.chosen = (at + spots.length) % spots.length;
    const spot = spots[this.chosen];
    const wide = { x: spot.x - 2 * spot.width, y: spot.y - 2 * spot.height, width: 5 * spot.width, height: 5 * spot.height };
    this.viewer.viewport.fitBounds(this.rectangle(wide), still());
    for (const mark of document.querySelectorAll(".spot")) {
      mark.classList.toggle("chosen", Number(mark.dataset.at) === this.chosen);
    }
    this.spotted(this.chosen);
  }

  setHeat(on, opacity) {
    this.heatOn = on;
    this.opacity = Math.min(1, Math.max(0, opacity));
    if (this.heat) this.heat.setOpacity(on ? this.opacity : 0);
  }

  zoom(by) {
    this.viewer.viewport.zoomBy(by, undefined, still());
    this.viewer.viewport.applyConstraints(still());
  }

  move(x, y) {
    const part = this.viewer.viewport.getBounds();
    this.viewer.viewport.panBy(new OpenSeadragon.Point((x * part.width) / 6, (y * part.height) / 6), still());
    this.viewer.viewport.applyConstraints(still());
  }

  home() {
    this.viewer.viewport.goHome(still());
  }

  // The longest bar of 1, 2 or 5 times a power of ten that fits; none where the scale is not known.
  drawBar() {
    const bar = document.querySelector("#bar");
    const mpp = this.reading && this.reading.slide.mpp ? this.reading.slide.mpp[0] : this.mpp;
    if (!mpp || !this.image) return;
    const screen = this.image.viewportToImageZoom(this.viewer.viewport.getZoom(true)); // screen pixels per slide pixel
    const most = (160 * mpp) / screen; // um
    const power = 10 ** Math.floor(Math.log10(most));
    const um = power * NICE.filter((each) => each * power <= most).at(-1);
    bar.hidden = false;
    bar.querySelector("b").style.width = `${(um / mpp) * screen}px`;
    bar.querySelector("span").textContent = um >= 1000 ? `${um / 1000} mm` : `${um} µm`;
    bar.dataset.um = um;
  }

  // A small picture of a spot and a little around it, put together of the tiles that the viewer uses too.
  async picture(spot, canvas) {
    const side = 256;
    const grow = 0.25;
    const left = spot.x - spot.width * grow;
    const top = spot.y - spot.height * grow;
    const across = spot.width * (1 + 2 * grow);
    const down = spot.height * (1 + 2 * grow);
    const level = Math.ceil(Math.log2(Math.max(this.size.x, this.size.y, 1)));
    const context = canvas.getContext("2d");
    const loads = [];
    for (let column = Math.max(0, Math.floor(left / side)); column * side < Math.min(left + across, this.size.x); column += 1) {
      for (let row = Math.max(0, Math.floor(top / side)); row * side < Math.min(top + down, this.size.y); row += 1) {
        const image = new Image();
        image.src = `${this.base}/image_files/${level}/${column}_${row}.jpeg`;
        loads.push(image.decode().then(() => {
          const scale = canvas.width / across;
          context.drawImage(image, (column * side - left) * scale, (row * side - top) * scale,
            image.naturalWidth * scale, image.naturalHeight * scale);
        }));
      }
    }
    await Promise.all(loads);
    const scale = canvas.width / across;
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.strokeRect((spot.x - left) * scale, (spot.y - top) * scale, spot.width * scale, spot.height * scale);
  }
}

// Whoever wants no motion gets none.
function still() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
