import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import type { Shown } from "../../lib/display/shown.ts";
import type { Flow } from "../../lib/flow/flow.ts";
import { openViews, type Views } from "../../lib/notebook/views.ts";
import { withStore } from "../flow/flows.ts";

/** A flow "number" -> "square", displays on it, and what each place has shown, by the order in which places came up. */
async function withViews(
  run: (
    bench: { flow: Flow; views: Views; places: Shown[][]; number: (value: number) => ReturnType<typeof define>; computed: string[] },
  ) => Promise<void>,
): Promise<void> {
  await withStore(async ({ open }) => {
    const flow = await open(), places: Shown[][] = [], computed: string[] = [];
    using views = openViews(flow, () => {
      const shown: Shown[] = [];
      places.push(shown);
      return async (content) => {
        await new Promise((resolve) => setTimeout(resolve, 2));
        shown.push(content);
      };
    });
    await run({ flow, views, places, computed, number: (value) => define(flow, value, computed) });
  });
}

function define(flow: Flow, value: number, computed: string[]) {
  const noted = <T>(name: string, value: T) => (computed.push(name), value);
  const number = flow.stage("number", { version: 1, options: { value }, run: (_, { value }) => noted("number", value) });
  const square = flow.stage("square", { version: 1, inputs: { number }, run: ({ number }) => noted("square", number ** 2) });
  return { number, square };
}

const texts = (shown: readonly Shown[]) => shown.map((content) => content["text/plain"]);
const asText = (value: number) => ({ "text/plain": `it is ${value}`, "text/html": `<i>${value}</i>` });

Deno.test("a display waits for its stage, and follows it in its place without computing anything", async () => {
  await withViews(async ({ flow, views, places, number, computed }) => {
    const { square } = number(3);
    await views.results(square, asText);
    assertEquals(texts(places[0]), ["square is missing: input number is missing"]);
    assertEquals(computed, []);

    await flow.run(square, { upstream: true });
    await views.settle();
    assertEquals(texts(places[0]).at(-1), "it is 9");

    number(4); // the cell of a stage further up is run again
    await views.settle();
    const stale = places[0].at(-1)!;
    assertEquals(stale["text/plain"], "square is stale: input number is stale\nBefore:\nit is 9");
    assertStringIncludes(`${stale["text/html"]}`, 'role="status"');
    assertStringIncludes(`${stale["text/html"]}`, "<i>9</i>", "faint, what it showed before");
    assertEquals(computed, ["number", "square"], "a display costs nothing");

    await flow.run(square, { upstream: true });
    await views.settle();
    assertEquals(texts(places[0]).at(-1), "it is 16");
    assertEquals(places.length, 1);
  });
});

Deno.test("what is still true is not drawn again", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    const { number: first, square } = number(2);
    await flow.run(square, { upstream: true });
    await views.results(square, asText);
    await views.results({ first, square }, ({ first, square }) => ({ "text/plain": `${first} -> ${square}` }));
    for (let i = 0; i < 3; i++) {
      number(2);
      await views.settle();
    }
    assertEquals(places.map(texts), [["it is 4"], ["2 -> 4"]]);

    number(-2);
    await flow.run(square, { upstream: true }); // the same square of another number: the same bytes
    await views.settle();
    assertEquals(texts(places[0]).at(-1), "it is 4");
    assertEquals(texts(places[1]).at(-1), "-2 -> 4");
  });
});

Deno.test("many changes at once are one drawing, and a display is drawn once when it is made", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    const { square } = number(1);
    await flow.run(square, { upstream: true });
    number(1); // asks for a drawing, which is on its way when the display comes up
    await views.results(square, asText);
    assertEquals(texts(places[0]), ["it is 1"]);
    for (let value = 2; value < 10; value++) number(value);
    await views.settle();
    assertEquals(places[0].length, 2);
  });
});

Deno.test("a cell that is run again shows one thing twice, which is one thing in a report", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    const { square } = number(1), cell = () => views.results(square, asText);
    await flow.run(square, { upstream: true });
    await cell();
    await cell();
    number(2);
    await flow.run(square, { upstream: true });
    await views.settle();
    assertEquals(places.map((place) => texts(place).at(-1)), ["it is 4", "it is 4"]);
    assertEquals(views.contents(), [{ heading: "square", shown: asText(4) }]);
  });
});

Deno.test("a drawing that fails says so in its place, harms no other, and is tried again after the next change", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    const { square } = number(1);
    await flow.run(square, { upstream: true });
    await views.results(square, (value: number) => {
      if (value < 2) throw new Error("Cannot draw <little>");
      return asText(value);
    });
    await views.results(square, asText);
    assertEquals(texts(places[0]), ["Error: Cannot draw <little>"]);
    assertStringIncludes(`${places[0][0]["text/html"]}`, "&lt;little&gt;");
    number(2);
    await flow.run(square, { upstream: true });
    await views.settle();
    assertEquals(places.map((place) => texts(place).at(-1)), ["it is 4", "it is 4"]);
  });
});

Deno.test("a display of the states shows every change", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    await views.states("status", (states) => ({ "text/plain": states.map(({ name, state }) => `${name} ${state}`).join(", ") }));
    const { number: first } = number(1);
    await views.settle();
    await flow.run(first);
    await views.settle();
    assertEquals(texts(places[0]).at(-1), "number fresh, square missing");
    assert(texts(places[0]).includes("number missing, square missing"));
  });
});

Deno.test("a display of a stage that there is not, and one within another, are refused", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    await assertRejects(() => views.results({ name: "gone" }, asText), RangeError, 'Cannot show "gone": there is no such stage');
    const { square } = number(1);
    await flow.run(square, { upstream: true });
    await views.results(square, () => {
      views.expectOutside();
      return asText(1);
    });
    views.expectOutside();
    assertEquals(texts(places[0]), ["Error: Cannot run or show a stage within a display: name it beside those that the display shows"]);
  });
});

Deno.test("the first that a display shows is what is defined when it is made", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    for (let round = 0; round < 20; round++) {
      number(round); // a drawing is on its way
      await new Promise((resolve) => setTimeout(resolve, round % 5));
      flow.stage(`late ${round}`, { version: 1, run: () => round });
      await views.states(`${round}`, (states) => ({ "text/plain": states.map(({ name }) => name).join() }));
      assertStringIncludes(texts(places[round])[0], `late ${round}`);
    }
  });
});

Deno.test("displays that differ in what they close over are all kept up to date", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    const { square } = number(1);
    await flow.run(square, { upstream: true });
    for (const factor of [1, 10]) await views.results(square, (value: number) => ({ "text/plain": `${factor * value}` }));
    number(2);
    await flow.run(square, { upstream: true });
    await views.settle();
    assertEquals(places.map((place) => texts(place).at(-1)), ["4", "40"]);
    assertEquals(views.contents().map(({ shown }) => shown["text/plain"]), ["4", "40"]);
  });
});

Deno.test("a report says what is not up to date, as the cell does", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    const { square } = number(1);
    await flow.run(square, { upstream: true });
    await views.results(square, asText);
    number(2);
    await views.settle();
    assertEquals(views.contents()[0].shown["text/plain"], "square is stale: input number is stale\nBefore:\nit is 1");
    assertEquals(views.contents()[0].shown, places[0].at(-1));
  });
});

Deno.test("a drawing that fails, or gives no display, is called once for every change", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    const { square } = number(1), calls: number[] = [];
    await flow.run(square, { upstream: true });
    await views.results(square, ((value: number) => void calls.push(value)) as never);
    await views.settle();
    assertEquals(calls, [1]);
    assertEquals(places[0].map((content) => content["text/plain"].includes("such as table() gives")), [true]);
  });
});

Deno.test("a display within a display is refused, not waited for", async () => {
  await withViews(async ({ flow, views, places, number }) => {
    const { square } = number(1);
    await flow.run(square, { upstream: true });
    await views.results(square, async () => {
      await views.states("status", () => asText(1));
      return asText(1);
    });
    assertStringIncludes(texts(places[0])[0], "Cannot run or show a stage within a display");
  });
});

Deno.test("displays end with the notebook", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), shown: Shown[] = [];
    {
      using views = openViews(flow, () => async (content) => void shown.push(await content));
      await views.states("status", (states) => ({ "text/plain": `${states.length}` }));
    }
    flow.stage("late", { version: 1, run: () => 1 });
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertEquals(texts(shown), ["0"]);
  });
});
