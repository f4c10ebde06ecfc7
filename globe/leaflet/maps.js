// A frame may have no size yet when its map is made: fit the map again until the reader moves it.
L.Map.addInitHook(function () {
  const fit = this.fitBounds;
  let shown = null;
  const again = () => shown && fit.call(this, shown, { animate: false });
  this.fitBounds = (bounds) => ((shown = bounds), again(), this);
  this.on("resize", again);
  for (const event of ["pointerdown", "wheel", "keydown"])
    this.getContainer().addEventListener(event, () => (shown = null), { capture: true, once: true });
});
// A name moves to the left of its pin, or hides, where it would cover another name or a pin. Pins on top go first.
L.Map.addInitHook(function () {
  const all = (kind) => [...this.getContainer().querySelectorAll(kind)].reverse();
  const box = (element) => element.getBoundingClientRect();
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const tidy = () => {
    const taken = all(".pin").map(box);
    const free = (name) => !taken.some((other) => meet(box(name), other));
    for (const name of [...all(".name"), ...all(".town").reverse()]) {
      name.classList.remove("left");
      if (!free(name)) name.classList.add("left");
      const shown = free(name);
      name.style.visibility = shown ? "" : "hidden";
      if (shown) taken.push(box(name));
    }
  };
  this.on("layeradd zoomend resize", () => requestAnimationFrame(tidy));
});
