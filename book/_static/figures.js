// Three figures that respond, drawn from the numbers they carry. Without this script each is the still picture above it.
document.addEventListener("DOMContentLoaded", () => {
  const read = (text) => {
    const [head, ...rows] = text.trim().split("\n").map((line) => line.split(","));
    return rows.map((row) => Object.fromEntries(head.map((name, i) => [name, row[i] === "" || isNaN(row[i]) ? row[i] : +row[i]])));
  };
  const svg = (width, height, inside, said) =>
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${said}">${inside}</svg>`;
  const text = (x, y, what, anchor = "start") => `<text x="${x}" y="${y}" text-anchor="${anchor}">${what}</text>`;
  const select = (name, label, options) => `<label>${label} <select name="${name}">` +
    options.map(([value, shown]) => `<option value="${value}">${shown}</option>`).join("") + "</select></label>";
  const slide = (name, label, low, high, step, value) =>
    `<label>${label} <input type="range" name="${name}" min="${low}" max="${high}" step="${step}" value="${value}"></label>`;
  const percent = (share) => `${Math.round(100 * share)} %`;

  // Figure 2: what counts as alike, as unlike, and as recovered.
  const thresholds = (rows) => ({
    title: "Try it: move the thresholds of the cluster and of recovery",
    controls: slide("alike", "alike from", 0, 1, 0.01, 0.7) + slide("unlike", "unlike below", 0, 1, 0.01, 0.4) + slide("found", "recovered from", 0.5, 1, 0.01, 0.9),
    draw: ({ alike, unlike, found }) => {
      const x = (v) => 40 + 340 * v, y = (v) => 300 - 280 * v;
      const inside = rows.filter((one) => one.across_max >= alike && one.input_max < unlike);
      const shared = rows.filter((one) => one.across_max >= found), true_ = shared.filter((one) => one.input_max >= found);
      const all = rows.filter((one) => one.input_max >= found).length;
      const points = rows.map((one) => `<circle class="${one.across_max >= alike && one.input_max < unlike ? "marked" : one.input_max >= found ? "found" : ""}" cx="${x(one.across_max).toFixed(1)}" cy="${y(one.input_max).toFixed(1)}" r="2.4"/>`).join("");
      const box = `<rect class="box" x="${x(alike)}" y="${y(unlike)}" width="${x(1) - x(alike)}" height="${y(0) - y(unlike)}"/>`;
      const axes = `<path class="axis" d="M40 20V300H380"/>` + text(210, 330, "best cosine with the other SAE", "middle") + [0, 0.5, 1].map((v) => text(x(v), 314, v, "middle") + text(34, y(v) + 4, v, "end")).join("") + text(40, 14, "best cosine with a true feature");
      const share = shared.length ? percent(true_.length / shared.length) : "none";
      const said = `Cluster (alike from ${alike}, unlike below ${unlike}): ${inside.length} of ${rows.length} features. Recovered from ${found}: ${percent(all / rows.length)} of all features are true, and ${share} of the ${shared.length} that the two SAEs share from there on.`;
      return [svg(400, 340, axes + points + box, said), said];
    },
  });

  // Change by k, wherever training stops.
  const CHANGE = "change in %";
  const training = (rows) => {
    const stops = [...new Set(rows.map((one) => one.samples))], lines = [...new Set(rows.map((one) => one.line))];
    return {
      title: "Try it: stop the training earlier",
      controls: slide("stop", "training length", 0, stops.length - 1, 1, stops.length - 1),
      draw: ({ stop }) => {
        const now = lines.map((line) => rows.find((one) => one.line === line && one.samples === stops[stop]));
        const reach = Math.max(...rows.map((one) => Math.abs(one[CHANGE]))) * 1.1 || 1, y = (v) => 110 - 100 * Math.max(-1, Math.min(1, v / reach));
        const bars = now.map((one, i) => {
          const at = 50 + i * (340 / now.length), wide = 220 / now.length;
          return `<rect class="penalty" x="${at}" width="${wide}" y="${Math.min(y(0), y(one[CHANGE]))}" height="${Math.abs(y(one[CHANGE]) - y(0))}"/>` +
            `<path class="axis" d="M${at + wide / 2} ${y(one.low)}V${y(one.high)}"/>` + text(at + wide / 2, 232, one.line.replace("mean over k", "mean"), "middle") + text(at + wide / 2, 248, `${one[CHANGE] > 0 ? "+" : "−"}${Math.abs(one[CHANGE]).toFixed(1)}`, "middle");
        }).join("");
        const said = `After ${stops[stop].toLocaleString("en")} samples the training loss changes by, in percent: ` + now.map((one) => `${one.line}: ${one[CHANGE] > 0 ? "+" : "−"}${Math.abs(one[CHANGE]).toFixed(1)}`).join("; ") + ".";
        return [svg(400, 256, `<path class="axis" d="M40 ${y(0)}H396"/>` + text(36, y(0) + 4, "0", "end") + text(4, 14, "change, %: above 0 the loss is higher") + bars, said), said];
      },
    };
  };

  // The home figure: what was chosen, and what it gives.
  const choices = (rows) => ({
    title: "Try it: choose data, matching, loss, centring and re-initialisation",
    controls: select("data", "Samples", [["data as released", "data as released"], ["data as printed", "data as printed"]]) +
      select("matching", "Penalty", [["none", "none"], ["one to one", "matched one to one (released)"], ["maximum", "matched by maximum (printed)"]]) +
      select("loss", "Loss", [["mean", "mean (released)"], ["sum", "squared norm (printed)"]]) +
      select("centred", "Data", [["no", "as they are"], ["yes", "centred"]]) + select("reinit", "Re-initialisation", [["no", "off"], ["yes", "on"]]),
    draw: (chosen) => {
      const found = rows.filter((one) => one.data === chosen.data && (chosen.matching === "none" ? one.matching === "none" : one.matching === chosen.matching && one.loss === chosen.loss) && one.centred === chosen.centred && one.reinit === chosen.reinit)
        .sort((a, b) => b.samples - a.samples)[0];
      const condition = found && (found.centred === "yes" ? "centred" : found.matching === "none" ? (found.reinit === "yes" ? "reinit" : "baseline") : found.reinit === "yes" ? "mfr" : "penalty");
      if (!found) return ["", "This combination was not run."];
      const names = [["each", "True features found by one SAE"], ["any", "True features found by the two together"], ["shared_true", "True among the features they share"], ["true", "True among all their features"]];
      const bars = names.filter(([name]) => found[name] !== "").map(([name, label], i) => {
        const y = 16 + 34 * i;
        return text(0, y - 3, label) + `<rect class="track" x="0" y="${y}" width="330" height="12"/><rect class="${condition}" x="0" y="${y}" width="${330 * found[name]}" height="12"/>` +
          `<path class="axis" d="M${330 * Math.max(0, found[name + "_low"])} ${y + 6}H${330 * Math.min(1, found[name + "_high"])}"/>` + text(338, y + 11, percent(found[name]));
      }).join("");
      const said = `${names.filter(([name]) => found[name] !== "").map(([name, label]) => `${label}: ${percent(found[name])}`).join("; ")} (${found.seeds} seeds, ${found.samples.toLocaleString("en")} samples, ${found.data}).`;
      const mixed = found.matching === "maximum" && found.loss === "mean" ? " Nobody proposed this mixture of text and code; it is an ablation." : "";
      return [svg(400, 152, bars, said), said + mixed];
    },
  });

  const kinds = { thresholds, training, choices };
  for (const data of document.querySelectorAll("script[data-live]")) {
    const live = kinds[data.dataset.live](read(data.textContent)), box = document.createElement("details");
    box.className = "mfr-live";
    box.innerHTML = `<summary>${live.title}</summary><form>${live.controls}</form><div></div><p aria-live="polite"></p>`;
    const form = box.querySelector("form");
    const draw = () => {
      const values = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value === "" || isNaN(value) ? value : +value]));
      [box.querySelector("div").innerHTML, box.querySelector("p").textContent] = live.draw(values);
    };
    form.addEventListener("input", draw);
    form.addEventListener("submit", (event) => event.preventDefault());
    draw();
    data.after(box);
  }

  // An address of a figure or table shows what it was made from; a key of a run becomes the command that recomputes it.
  const arrive = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = target && target.matches("figure.mfr-figure") && target.querySelector("details.mfr-provenance");
    if (fold) fold.open = true;
  };
  addEventListener("hashchange", arrive);
  arrive();
  for (const key of document.querySelectorAll(".mfr-provenance code")) key.title = "Click for the command that recomputes this run";
  document.addEventListener("click", ({ target }) => {
    if (target.matches(".mfr-provenance code")) target.textContent = target.textContent.replace(/^(mfr verify )?/, (had) => (had ? "" : "mfr verify "));
  });

  // What is wider than its box says so: a shadow alone is hidden by a table's cells.
  for (const box of document.querySelectorAll(".mfr-scroll, .pst-scrollable-table-container")) {
    const hint = document.createElement("p");
    hint.className = "mfr-hint";
    hint.textContent = "↔ scroll sideways for the rest";
    box.before(hint);
    new ResizeObserver(() => { hint.hidden = box.scrollWidth <= box.clientWidth + 1; }).observe(box);
  }
});
