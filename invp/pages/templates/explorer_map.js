// The map: a canvas of points, one an image, to move in, to choose from and to select in, and one over it for lines and names.
//
// Points are written into the canvas's pixels and not drawn one by one: 50,000 take milliseconds. A click or a hover
// redraws the upper canvas alone.

const NEAR = 14; // pixels of the page within which a pointer finds an image
const CLICK = 4; // pixels that a pointer may move in a click
const MOVING = 600; // milliseconds from stage to stage
const MOST_PICTURES = 90; // images in view at most for the map to show them in place of points
const PICTURE = 34; // the side of such an image, in pixels of the page
const FARTHEST = 400; // how much the map can be enlarged
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

/** The pixels of a disc: [dx, dy, share of the pixel that it covers]. */
function disc(radius) {
  const pixels = [];
  const reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const cover = Math.min(1, radius + 0.5 - Math.hypot(dx, dy));
      if (cover > 0) pixels.push([dx, dy, cover]);
    }
  }
  return pixels;
}

/** Red, green and blue of any colour that CSS knows. */
function rgb(colour) {
  const pen = new OffscreenCanvas(1, 1).getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  return pen.getImageData(0, 0, 1, 1).data;
}

/** Whether a point lies within a polygon, by how many of its sides a ray crosses. */
function inside(x, y, polygon) {
  let crossed = false;
  for (let at = 0, last = polygon.length - 1; at < polygon.length; last = at++) {
    const [x1, y1] = polygon[at];
    const [x2, y2] = polygon[last];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) crossed = !crossed;
  }
  return crossed;
}

export class GraphMap {
  /**
   * A map in the element `frame`. `on` has functions: choose(place), hover(place, x, y) with place -1 for none, and
   * select(places); and picture(place), the loaded picture of an image or null.
   */
  constructor(frame, on) {
    this.on = on;
    [this.points, this.lines] = frame.querySelectorAll("canvas");
    this.frame = frame;
    this.view = { zoom: 1, x: 0, y: 0 }; // what lies in the middle, in coordinates of the positions
    this.lasso = false; // whether a drag draws a lasso, and does not move the map
    this.polygon = [];
    this.pointers = new Map();
    this.positions = new Float32Array();
    this.colouring = { palette: [], index: new Uint8Array(), faint: null };
    this.marks = { anchor: -1, edges: [], path: [], names: [] };
    this.moving = 0;
    this.resize();
    new ResizeObserver(() => this.resize()).observe(frame);
    this.listen();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight];
    if (!width || (this.width === width && this.height === height && this.ratio === ratio)) return;
    Object.assign(this, { width, height, ratio });
    for (const canvas of [this.points, this.lines]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.draw();
  }

  /** Pixels of the page for a unit of the positions. */
  get scale() {
    return this.view.zoom * (Math.min(this.width, this.height) / 2 - 14);
  }

  /** Where an image lies in the frame, in pixels of the page. */
  pointOf(place) {
    return [
      this.width / 2 + (this.positions[2 * place] - this.view.x) * this.scale,
      this.height / 2 - (this.positions[2 * place + 1] - this.view.y) * this.scale,
    ];
  }

  visible() {
    const found = [];
    for (let place = 0; place < this.positions.length / 2; place++) {
      const [x, y] = this.pointOf(place);
      if (x >= 0 && y >= 0 && x <= this.width && y <= this.height) found.push(place);
    }
    return found;
  }

  /** The image nearest to a point of the frame, of those that are not faint, or -1 if none is near. */
  nearest(x, y, reach = NEAR) {
    let [found, least] = [-1, reach ** 2];
    for (let place = 0; place < this.positions.length / 2; place++) {
      if (this.colouring.faint?.[place]) continue;
      const [u, v] = this.pointOf(place);
      const distance = (u - x) ** 2 + (v - y) ** 2;
      if (distance < least) [found, least] = [place, distance];
    }
    return found;
  }

  // ---- Drawing

  /** Shows these positions; images move there from where they are. */
  moveTo(positions) {
    cancelAnimationFrame(this.moving);
    const from = this.positions;
    if (from === positions || from.length !== positions.length || STILL.matches) {
      this.positions = positions;
      this.draw();
      return;
    }
    const start = performance.now();
    const step = (now) => {
      const share = Math.min(1, Math.max(0, (now - start) / MOVING));
      const eased = share * share * (3 - 2 * share);
      this.positions = share === 1 ? positions : from.map((value, at) => value + (positions[at] - value) * eased);
      this.draw();
      if (share < 1) this.moving = requestAnimationFrame(step);
    };
    this.moving = requestAnimationFrame(step);
  }

  draw() {
    if (!this.width || !this.positions.length) return;
    this.drawPoints();
    this.drawLines();
  }

  radius() {
    const crowd = Math.sqrt(1500 / Math.max(this.positions.length / 2, 1));
    return this.ratio * Math.min(5.5, Math.max(1.3, 3 * crowd) * this.view.zoom ** 0.35);
  }

  drawPoints() {
    const pen = this.points.getContext("2d");
    const { width, height } = this.points;
    const image = pen.createImageData(width, height);
    const { palette, index, faint } = this.colouring;
    const ground = rgb(getComputedStyle(this.frame).backgroundColor);
    new Uint32Array(image.data.buffer).fill(
      new Uint32Array(Uint8ClampedArray.from([...ground.slice(0, 3), 255]).buffer)[0],
    );
    const colours = palette.map(rgb);
    const dull = colours.map((colour) => Array.from(colour, (value, at) => ground[at] + (value - ground[at]) * 0.16));
    const radius = this.radius();
    const mask = disc(radius);
    const margin = Math.ceil(radius) + 1;
    const [scale, left, top] = [this.scale * this.ratio, (this.width / 2) * this.ratio, (this.height / 2) * this.ratio];
    for (const part of faint ? [1, 0] : [0]) {
      for (let place = 0; place < index.length; place++) {
        if (faint && faint[place] !== part) continue;
        const u = Math.round(left + (this.positions[2 * place] - this.view.x) * scale);
        const v = Math.round(top - (this.positions[2 * place + 1] - this.view.y) * scale);
        if (u < margin || v < margin || u >= width - margin || v >= height - margin) continue;
        stamp(image.data, width, u, v, mask, (part ? dull : colours)[index[place]]);
      }
    }
    pen.putImageData(image, 0, 0);
    this.drawPictures(pen);
  }

  /** Where few images are in view, the images themselves. */
  drawPictures(pen) {
    if (this.view.zoom < 2) return;
    const visible = this.visible().filter((place) => !this.colouring.faint?.[place]);
    if (visible.length > MOST_PICTURES) return;
    const side = PICTURE * this.ratio;
    pen.imageSmoothingEnabled = false;
    for (const place of visible) {
      const picture = this.on.picture(place);
      if (!picture) continue;
      const [x, y] = this.pointOf(place).map((value) => value * this.ratio - side / 2);
      pen.fillStyle = this.colouring.palette[this.colouring.index[place]];
      pen.fillRect(x - 2 * this.ratio, y - 2 * this.ratio, side + 4 * this.ratio, side + 4 * this.ratio);
      pen.drawImage(picture, x, y, side, side);
    }
  }

  drawLines() {
    const pen = this.lines.getContext("2d");
    const style = getComputedStyle(this.frame);
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    this.drawNames(pen, style);
    for (const { from, to, step } of this.marks.edges) {
      pen.strokeStyle = style.getPropertyValue("--ink");
      pen.globalAlpha = 0.9 / step;
      pen.lineWidth = step === 1 ? 1.5 : 1;
      pen.setLineDash(step === 1 ? [] : [4, 2 + step]);
      this.line(pen, [from, to]);
    }
    pen.globalAlpha = 1;
    pen.setLineDash([]);
    pen.strokeStyle = style.getPropertyValue("--mark");
    pen.lineWidth = 3;
    this.line(pen, this.marks.path);
    if (this.marks.anchor >= 0) this.ring(pen, this.marks.anchor, style.getPropertyValue("--ink"));
    if (this.polygon.length) {
      pen.lineWidth = 1.5;
      pen.beginPath();
      for (const [x, y] of this.polygon) pen.lineTo(x, y);
      pen.closePath();
      pen.globalAlpha = 0.12;
      pen.fillStyle = style.getPropertyValue("--mark");
      pen.fill();
      pen.globalAlpha = 1;
      pen.stroke();
    }
  }

  line(pen, places) {
    pen.beginPath();
    for (const place of places) pen.lineTo(...this.pointOf(place));
    pen.stroke();
  }

  ring(pen, place, ink) {
    const [x, y] = this.pointOf(place);
    pen.fillStyle = ink;
    pen.beginPath();
    pen.arc(x, y, 7.5, 0, 2 * Math.PI);
    pen.fill();
    pen.fillStyle = this.colouring.palette[this.colouring.index[place]];
    pen.beginPath();
    pen.arc(x, y, 5, 0, 2 * Math.PI);
    pen.fill();
  }

  drawNames(pen, style) {
    pen.font = `600 12px ${style.fontFamily}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    for (const { text, place } of this.marks.names) {
      const [x, y] = this.pointOf(place);
      pen.strokeStyle = style.backgroundColor;
      pen.strokeText(text, x, y);
      pen.fillStyle = style.getPropertyValue("--ink");
      pen.fillText(text, x, y);
    }
  }

  // ---- What the user does

  /** Enlarges the map about a point of the frame; without one, about its middle. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const before = this.scale;
    this.view.zoom = Math.min(FARTHEST, Math.max(0.5, this.view.zoom * factor));
    this.view.x += (x - this.width / 2) * (1 / before - 1 / this.scale);
    this.view.y -= (y - this.height / 2) * (1 / before - 1 / this.scale);
    this.draw();
  }

  /** Moves what is seen by pixels of the page. */
  pan(dx, dy) {
    this.view.x -= dx / this.scale;
    this.view.y += dy / this.scale;
    this.draw();
  }

  fit() {
    this.view = { zoom: 1, x: 0, y: 0 };
    this.draw();
  }

  at(event) {
    const box = this.frame.getBoundingClientRect();
    return [event.clientX - box.left - this.frame.clientLeft, event.clientY - box.top - this.frame.clientTop];
  }

  listen() {
    const canvas = this.lines;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.on.hover(-1));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault(); // or the page would move too
        this.zoom(1.0015 ** -event.deltaY, ...this.at(event));
      },
      { passive: false },
    );
  }

  press(event) {
    const [x, y] = this.at(event);
    this.pointers.set(event.pointerId, { x, y, fromX: x, fromY: y, moved: false });
    this.lines.setPointerCapture(event.pointerId);
    this.polygon = [];
  }

  drag(event) {
    const [x, y] = this.at(event);
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) {
      this.on.hover(this.nearest(x, y), x, y);
      return;
    }
    pointer.moved ||= Math.hypot(x - pointer.fromX, y - pointer.fromY) > CLICK;
    if (!pointer.moved) return;
    if (this.pointers.size === 2) this.pinch(pointer, x, y);
    else if (this.lasso) {
      if (!this.polygon.length) this.polygon.push([pointer.fromX, pointer.fromY]);
      this.polygon.push([x, y]);
      this.drawLines();
    } else this.pan(x - pointer.x, y - pointer.y);
    Object.assign(pointer, { x, y });
  }

  /** One of two fingers moves: the map grows with their distance. */
  pinch(pointer, x, y) {
    const [other] = [...this.pointers.values()].filter((each) => each !== pointer);
    const before = Math.hypot(pointer.x - other.x, pointer.y - other.y);
    const after = Math.hypot(x - other.x, y - other.y);
    if (before > 0) this.zoom(after / before, (x + other.x) / 2, (y + other.y) / 2);
  }

  release(event) {
    const [x, y] = this.at(event);
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (!pointer) return;
    if (this.polygon.length) {
      const polygon = this.polygon;
      this.polygon = [];
      this.on.select(this.visible().filter((place) => inside(...this.pointOf(place), polygon)));
    } else if (!pointer.moved) {
      const place = this.nearest(x, y, Number.POSITIVE_INFINITY);
      if (place >= 0) this.on.choose(place);
    }
  }
}

/** Writes a disc's pixels in one colour, over what is there. */
function stamp(pixels, width, x, y, mask, [red, green, blue]) {
  for (let each = 0; each < mask.length; each++) {
    const [dx, dy, cover] = mask[each];
    const at = 4 * ((y + dy) * width + x + dx);
    pixels[at] += (red - pixels[at]) * cover;
    pixels[at + 1] += (green - pixels[at + 1]) * cover;
    pixels[at + 2] += (blue - pixels[at + 2]) * cover;
  }
}
