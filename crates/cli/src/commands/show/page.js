"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const buttons = document.querySelectorAll("button[data-set]");
  const press = () => buttons.forEach((b) =>
    b.setAttribute("aria-pressed", String(root.dataset[b.dataset.set] === b.dataset.to)));
  buttons.forEach((b) => b.addEventListener("click", () => {
    root.dataset[b.dataset.set] = b.dataset.to;
    press();
  }));
  press();

  const scale = (words) => {
    const [low, high, from, to, log] = words.split(" ").map(Number);
    return (v) => from + (to - from) *
      (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
  };
  const number = (v) => v === null ? "no number" : String(Number(v.toPrecision(6)));

  // Marks, for every curve, the point nearest to the pointer along x.
  const show = (svg, tip, event) => {
    const axis = svg.classList.contains("x-epochs") ? "epochs" : "seconds";
    const at = [scale(svg.dataset.x), scale(svg.dataset.y)];
    const box = svg.getBoundingClientRect();
    const wide = svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / box.width * wide;
    const marks = svg.querySelector(".marks");
    marks.replaceChildren();
    let nearest = null;
    const lines = [];
    charts[Number(svg.dataset.chart)].forEach((curve, index) => {
      let best = -1;
      curve[axis].forEach((v, i) => {
        if (best < 0 || Math.abs(at[0](v) - x) < Math.abs(at[0](curve[axis][best]) - x)) best = i;
      });
      if (best < 0) return;
      const [px, value] = [at[0](curve[axis][best]), curve.values[best]];
      if (nearest === null || Math.abs(px - x) < Math.abs(nearest - x)) nearest = px;
      lines.push(`${curve.name}: ${number(value)} (${number(curve.seconds[best])} ${root.dataset.unit}, ${root.dataset.count} ${number(curve.epochs[best])})`);
      if (value === null) return;
      const mark = document.createElementNS(svg.namespaceURI, "circle");
      mark.setAttribute("class", `f${index % 6}`);
      mark.setAttribute("cx", px);
      mark.setAttribute("cy", at[1](value));
      mark.setAttribute("r", 4);
      marks.append(mark);
    });
    if (nearest === null) return;
    const cross = svg.querySelector(".cross");
    cross.setAttribute("x1", nearest);
    cross.setAttribute("x2", nearest);
    cross.style.visibility = "visible";
    tip.textContent = lines.join("\n");
    tip.hidden = false;
    const left = nearest / wide * box.width;
    const room = box.width - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, left > box.width / 2 ? left - tip.offsetWidth - 12 : left + 12))}px`;
  };
  const hide = (svg, tip) => {
    svg.querySelector(".marks").replaceChildren();
    svg.querySelector(".cross").style.visibility = "hidden";
    tip.hidden = true;
  };
  document.querySelectorAll(".plot").forEach((svg) => {
    const tip = svg.parentElement.querySelector(".tip");
    svg.addEventListener("pointermove", (event) => show(svg, tip, event));
    svg.addEventListener("pointerdown", (event) => show(svg, tip, event));
    svg.addEventListener("pointerleave", () => hide(svg, tip));
  });
})();
