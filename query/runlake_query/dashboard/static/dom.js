// @ts-check
/** Elements, built in one call and changed in place. */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, any>} Props */

/**
 * An element. Props are attributes; `onclick` and the like are listeners; null, undefined and false are left out.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Props} [props]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  setProps(element, props);
  append(element, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * The same for SVG.
 * @param {string} tag
 * @param {Props} [props]
 * @param {...(Child | Child[])} children
 */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  setProps(element, props);
  append(element, children);
  return element;
}

/** @param {Element} element @param {Props} props */
function setProps(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** @param {Element} element @param {(Child | Child[])[]} children */
function append(element, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** @param {Element} element @param {...(Child | Child[])} children */
export function fill(element, ...children) {
  const kept = document.createDocumentFragment();
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    kept.append(child instanceof Node ? child : String(child));
  }
  element.replaceChildren(kept);
}

/**
 * Make the children of `parent` those of `items`, by key: elements of known keys are kept and moved, so that focus,
 * selection and scrolling stay where they are.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T, known: Element | undefined) => Element} render called with the element of that key, when there is one
 */
export function reconcile(parent, items, key, render) {
  /** @type {Map<string, Element>} */
  const known = new Map();
  for (const child of parent.children) known.set(child.getAttribute("data-key") ?? "", child);
  let next = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const old = known.get(name);
    known.delete(name);
    const element = render(item, old);
    element.setAttribute("data-key", name);
    if (old === next && old !== undefined && next !== null) next = next.nextElementSibling;
    if (element === old && element.nextElementSibling === next) continue;
    if (old !== undefined && old !== element) old.remove();
    parent.insertBefore(element, next);
  }
  for (const gone of known.values()) gone.remove();
}

/** To the clipboard; where a page has none (plain HTTP from another machine), to be copied by hand. @param {string} text */
export async function copy(text) {
  if (navigator.clipboard !== undefined) {
    await navigator.clipboard.writeText(text);
    say("Copied");
    return;
  }
  const field = h("textarea", { readonly: true, rows: 8, "aria-label": "To be copied" }, text);
  const dialog = h("dialog", { onclose: () => dialog.remove() }, field, h("form", { method: "dialog" }, h("button", {}, "Close")));
  document.body.append(dialog);
  dialog.showModal();
  field.select();
}

/** Tell something in passing, also to a screen reader. @param {string} text */
export function say(text) {
  const place = document.getElementById("toast");
  if (place === null) return;
  place.textContent = text;
  place.classList.add("shown");
  window.setTimeout(() => place.classList.remove("shown"), 2500);
}
