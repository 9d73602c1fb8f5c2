/**
 * Text as Python's `str` treats it: the protocols are Python programs, and JavaScript has other white space.
 *
 * @module
 */

/** What `str.isspace` and `\s` of `re` accept. JavaScript's `\s` lacks U+001C to U+001F and U+0085, and has U+FEFF. */
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const LEADING = new RegExp(`^${SPACE}+`), TRAILING = new RegExp(`${SPACE}+$`), RUN = new RegExp(`${SPACE}+`);

/** `str.strip()` */
export function strip(text: string): string {
  return stripStart(stripEnd(text));
}

/** `str.lstrip()` */
export function stripStart(text: string): string {
  return text.replace(LEADING, "");
}

/** `str.rstrip()` */
export function stripEnd(text: string): string {
  return text.replace(TRAILING, "");
}

/** `len(re.split(r"\s+", text))`: one more than there are runs of white space. */
export function countWords(text: string): number {
  return text.split(RUN).length;
}

/** `str.capitalize()`: the first character as a title begins, all others in lower case; ß becomes Ss. */
export function capitalize(text: string): string {
  const [first = "", ...rest] = text, [initial = "", ...more] = first.toUpperCase();
  return initial + [...more, ...rest].join("").toLowerCase();
}

/** `len(text)`: code points. */
export function characters(text: string): number {
  return [...text].length;
}
