// What is wrong with a page for those who see little, use a keyboard, or have it read out.
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  // Relative luminance, as WCAG defines it.
  const light = (colour) => {
    const [red, green, blue] = [...colour.slice(0, 3)].map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba("#fff");
  };
  const contrast = (element) => {
    const style = getComputedStyle(element), own = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [less, more] = [light(own), light(behind(element))].sort((a, b) => a - b);
    return (more + 0.05) / (less + 0.05);
  };

  // Text needs a contrast of 4.5, large text of 3.
  const low = [], silent = ["SCRIPT", "STYLE", "TITLE", "NOSCRIPT"];
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const words = texts.map((node) => node.data.trim()).join("");
    if (!words || silent.includes(element.tagName.toUpperCase()) || !element.checkVisibility()) continue;
    const wanted = parseFloat(getComputedStyle(element).fontSize) >= 24 ? 3 : 4.5, found = contrast(element);
    if (found < wanted) low.push(`${words.slice(0, 40)}: ${found.toFixed(2)}`);
  }

  // What can be used has a name.
  const usable = [...document.querySelectorAll("button, a[href], input, select, [tabindex], [role]:not([role=status])")];
  const named = (element) => element.getAttribute("aria-label") || element.textContent.trim()
    || (element.labels && element.labels.length && element.labels[0].textContent.trim());
  const nameless = usable.filter((element) => !named(element)).map((element) => element.outerHTML.slice(0, 120));

  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  const targets = [...document.querySelectorAll('a[href^="#"]')].map((link) => link.getAttribute("href").slice(1));
  const broken = [...ids.filter((id, place) => ids.indexOf(id) !== place), ...targets.filter((id) => !ids.includes(id))];
  return { "low contrast": low, nameless, broken };
}
