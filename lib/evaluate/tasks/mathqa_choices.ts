/**
 * Choices of MathQA.
 *
 * @module
 */

/**
 * Splits MathQA's one string of options: `a ) 1 , b ) 2 , …, e ) none of these`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(mathqaChoices("a ) 3 km , b ) 1 , 200 m , c ) 7 , d ) 8 , e ) none"), ["3 km", "1", "7", "8", "none"]);
 * ```
 */
export function mathqaChoices(options: string): string[] {
  // A choice ends at the first ", ": one with a comma of its own is cut short, in the harness as here. Python's $ also stands before a final line break.
  const found = options.match(/[abcd] \) [^\n]*?, |e \) [^\n]*?(?=\n?$)/g) ?? [];
  return found.map((choice) => choice.slice("a ) ".length).replace(/[ ,]+$/, ""));
}
