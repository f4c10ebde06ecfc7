// A frame may have no size yet when its map is made: fit the map again until the reader moves it.
L.Map.addInitHook(function () {
  const fit = this.fitBounds;
  let shown = null;
  this.fitBounds = (bounds, options) => fit.call(this, (shown = bounds), options);
  this.on("resize", () => shown && fit.call(this, shown, { animate: false }));
  for (const event of ["pointerdown", "wheel", "keydown"])
    this.getContainer().addEventListener(event, () => (shown = null), { capture: true, once: true });
});
