"use strict";
/* The interactive timeline: draws what the window shows, spans if they are few, bins if many. */
(() => {
  const data = JSON.parse(document.getElementById("timeline-data").textContent);
  const types = { f8: Float64Array, i2: Int16Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array };
  const column = {};
  for (const [name, [type, text]] of Object.entries(data.columns)) {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    column[name] = new types[type](bytes.buffer);
  }
  const count = column.start.length, labels = data.labels, lanes = data.lanes;
  const control = (id) => document.getElementById(id);
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "us"], [1, "ns"]];
  const time = (ns) => {
    const [scale, unit] = units.find(([size]) => ns >= size) || units[3];
    return (ns / scale).toFixed(scale === 1 ? 0 : 3) + " " + unit;
  };
  const wanted = (i) => control("idle").checked || !labels[column.label[i]].idle;
  const paint = (label) => labels[label][control("colour").value];
  const edge = (i, side) => column.rank[i] + lanes[column.lane[i]][side];

  function visible(low, high) {
    const rows = [];
    for (let i = 0; i < count; i++)
      if (column.start[i] < high && column.end[i] > low && wanted(i)) rows.push(i);
    return rows;
  }
  const keys = ["left", "right", "top", "bottom", "fill", "label", "rank", "stream", "start", "length", "layer", "microbatch", "stage", "part"];
  const empty = () => Object.fromEntries(data.hatches.map((hatch) => [hatch, Object.fromEntries(keys.map((key) => [key, []]))]));
  const known = (value) => (value < 0 ? "-" : String(value));
  function add(by_hatch, i, left, right, bin) {
    const label = labels[column.label[i]], look = paint(column.label[i]), out = by_hatch[look.hatch];
    out.left.push(left / data.scale); out.right.push(right / data.scale);
    out.top.push(bin ? bin.top : edge(i, 0)); out.bottom.push(bin ? bin.bottom : edge(i, 1));
    out.fill.push(look.fill);
    out.label.push(bin ? bin.text : label.name); out.rank.push(column.rank[i]); out.stream.push(lanes[column.lane[i]][2]);
    out.start.push(time(left)); out.length.push(time(right - left)); out.part.push(bin ? "-" : label.part);
    for (const key of ["layer", "microbatch", "stage"]) out[key].push(bin ? "-" : known(column[key][i]));
  }
  function spans(rows) {
    const out = empty();
    for (const i of rows) add(out, i, column.start[i], column.end[i]);
    return out;
  }
  /* Bins of equal length: what ran in one is stacked, each as high as its share of the bin. */
  function bins(rows, low, high) {
    const tracks = new Map();
    for (const i of rows) {
      const key = column.rank[i] * lanes.length + column.lane[i];
      if (!tracks.has(key)) tracks.set(key, []);
      tracks.get(key).push(i);
    }
    const number = Math.max(60, Math.min(300, Math.floor(data.most / Math.max(3 * tracks.size, 1))));
    const width = (high - low) / number, out = empty();
    for (const own of tracks.values()) {
      const found = Array.from({ length: number }, () => new Map());
      for (const i of own) {
        const name = paint(column.label[i]).name;
        const from = Math.max(0, Math.floor((column.start[i] - low) / width));
        const to = Math.min(number - 1, Math.floor((column.end[i] - low) / width));
        for (let bin = from; bin <= to; bin++) {
          const left = low + bin * width;
          const part = Math.min(column.end[i], left + width) - Math.max(column.start[i], left);
          const seen = found[bin].get(name);
          if (seen) seen.time += part;
          else found[bin].set(name, { i, name, time: part, order: paint(column.label[i]).order });
        }
      }
      found.forEach((shares, bin) => {
        let bottom = edge(own[0], 1);
        const height = bottom - edge(own[0], 0);
        for (const { i, name, time: spent } of [...shares.values()].sort((a, b) => a.order - b.order)) {
          const share = Math.min(spent / width, 1), top = bottom - share * height;
          if (share > 0.004) add(out, i, low + bin * width, low + (bin + 1) * width, { top, bottom, text: `${Math.round(100 * share)}% ${name}` });
          bottom = top;
        }
      });
    }
    return out;
  }
  function captions(rows, low, high, pixels) {
    const out = { x: [], y: [], text: [] }, perPixel = (high - low) / pixels;
    for (const i of rows) {
      const label = labels[column.label[i]];
      if (label.idle || column.lane[i] !== 0) continue;
      const left = Math.max(column.start[i], low), right = Math.min(column.end[i], high);
      const room = (right - left) / perPixel;
      const text = room > 90 ? `${label.name} ${known(column.microbatch[i])}` : label.letter;
      if (room < 14 || out.x.length > 3000) continue;
      out.x.push((left + right) / 2 / data.scale); out.y.push((edge(i, 0) + edge(i, 1)) / 2); out.text.push(text);
    }
    return out;
  }
  function critical(low, high) {
    const out = { left: [], right: [], y: [] };
    if (!control("critical").checked) return out;
    for (let i = 0; i < count; i++)
      if (column.critical[i] && column.start[i] < high && column.end[i] > low) {
        out.left.push(column.start[i] / data.scale); out.right.push(column.end[i] / data.scale);
        out.y.push(edge(i, 0));
      }
    return out;
  }
  function legend(rows) {
    const seen = new Map();
    for (const i of rows) {
      const look = paint(column.label[i]);
      seen.set(look.name, look);
    }
    const order = [...seen.values()].sort((a, b) => a.order - b.order);
    control("timeline-legend").replaceChildren(...order.map((look) => {
      const item = document.createElement("li"), box = document.createElement("span");
      box.style.background = look.css;
      item.append(box, look.name);
      return item;
    }));
  }
  function start(document_) {
    const model = (name) => document_.get_model_by_name(name);
    const figure = model("timeline"), range = figure.x_range;
    let timer = 0;
    const draw = () => {
      const low = range.start * data.scale, high = range.end * data.scale;
      const rows = visible(low, high), few = rows.length <= data.most;
      const drawn = few ? spans(rows) : bins(rows, low, high);
      for (const hatch of data.hatches) model("spans" + hatch).data_source.data = drawn[hatch];
      model("captions").data_source.data = few ? captions(rows, low, high, figure.inner_width || 900) : { x: [], y: [], text: [] };
      model("critical").data_source.data = critical(low, high);
      legend(rows);
      control("timeline-note").textContent = few
        ? `${rows.length.toLocaleString("en")} spans in view, each one drawn.`
        : `${rows.length.toLocaleString("en")} spans in view, drawn as stacks: in each bin of time, everything is as high as its share of it; zoom in for single spans.`;
      control("timeline-plot").dataset.drawn = few ? "spans" : "bins";
      control("timeline-plot").dataset.count = String(rows.length);
    };
    const later = () => { clearTimeout(timer); timer = setTimeout(draw, 60); };
    range.properties.start.change.connect(later);
    range.properties.end.change.connect(later);
    for (const id of ["colour", "idle", "critical-switch"]) {
      const found = control(id);
      if (found) found.addEventListener("change", draw);
    }
    control("critical").addEventListener("change", draw);
    control("reset").addEventListener("click", () => { range.setv({ start: 0, end: data.end / data.scale }); draw(); });
    draw();
    window.simdeepTimeline = { range, draw, scale: data.scale, figure };
  }
  Bokeh.embed.embed_item(data.item).then((views) => start((Array.isArray(views) ? views[0] : [...views][0] ?? views).model?.document ?? Bokeh.documents[0]));
})();
