/** Charts: one description, drawn twice, and said in words. */

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import * as winnow from "../../mod.ts";
import { checkChart, imageOf, jupyterDisplay, parseSvg, specOf } from "./bundles.ts";
import * as sample from "./samples.ts";

for (const [name, draw] of Object.entries(sample.charts)) {
  Deno.test(`${name} is a plotly spec, an image and text`, async () => {
    const shown = draw();
    await checkChart(shown);
    assertEquals(await jupyterDisplay(shown), await winnow.displayed(shown));
    assertEquals(
      JSON.stringify(await winnow.displayed(draw())),
      JSON.stringify(await jupyterDisplay(shown)),
      "the same data look the same",
    );
  });
}

Deno.test("expertImportance() has every score, and marks what is dropped or was never met", async () => {
  const shown = winnow.expertImportance(sample.scores, { plan: sample.plan }), { data: [map, dropped, unseen] } = specOf(shown);
  assertEquals(map.z, [[4, 0.25, 64, 1.5].map(Math.log10), [Math.log10(8), null, Math.log10(2), Math.log10(16)]]);
  assertEquals(map.customdata.map((row: [number][]) => row.map(([value]) => value)), [[4, 0.25, 64, 1.5], [8, 0, 2, 16]]);
  assertEquals([map.x, map.y], [[0, 1, 2, 3], [1, 2]]);
  assertEquals([dropped.name, dropped.x, dropped.y], ["dropped", [0, 1, 1], [1, 1, 2]]);
  assertEquals([unseen.name, unseen.x, unseen.y], ["no calibration token", [1], [2]]);
  assertEquals(parseSvg(await imageOf(shown)).text.match(/^dropped$|^no calibration token$/gm)?.length, 2);
  assertEquals(shown["text/plain"].split("\n"), [
    "Importance of experts, leave-one-out",
    "layer 1: sum 69.75, least expert 1 (0.25), most expert 2 (64); dropped 0, 1",
    "layer 2: sum 26, least expert 1 (0), most expert 3 (16); dropped 1; without a calibration token 1",
  ]);
  const plain = winnow.expertImportance(sample.scores, { plan: { layers: [] } });
  assertEquals(specOf(plain).data.length, 2, "nothing is dropped by an empty plan");
});

Deno.test("displays take results that were JSON", () => {
  const again = <T>(value: T): T => JSON.parse(JSON.stringify(value));
  assertEquals(winnow.expertImportance(again(sample.scores)), winnow.expertImportance(sample.scores));
  assertEquals(winnow.routingLoad(again(sample.before)), winnow.routingLoad(sample.before));
  assertEquals(winnow.singularSpectra(again(sample.spectra)), winnow.singularSpectra(sample.spectra));
});

Deno.test("layerBudgets() stacks what is kept on what is dropped, with the importance above", () => {
  const { data: [dropped, kept], layout } = specOf(winnow.layerBudgets(sample.budget, sample.scores));
  assertEquals([dropped.y, kept.y, kept.text, layout.barmode], [[2, 1], [2, 3], ["69.75", "26"], "stack"]);
  assertMatch(
    winnow.layerBudgets(sample.budget, sample.scores)["text/plain"],
    /3 experts dropped of 8, 37\.5 %\nlayer 1: 2 dropped of 4, importance 69\.75/,
  );
  assertEquals(specOf(winnow.layerBudgets(sample.budget)).data.map(({ name }) => name), ["dropped"]);
});

Deno.test("similarityMap() has any two layers, and marks the pairs that are merged on both sides", () => {
  const { data: [map, merged] } = specOf(sample.charts["similarityMap()"]());
  assertEquals([map.x, map.y, map.z], [[1, 2, 4], [1, 2, 4], [[1, 0.5, 0.25], [0.5, 1, 0.75], [0.25, 0.75, 1]]]);
  assertEquals([merged.name, merged.x, merged.y], ["merged", [2, 4], [4, 2]]);
  assertEquals(specOf(winnow.similarityMap(sample.similarity)).data.length, 1);
  assertEquals(winnow.similarityMap(sample.similarity)["text/plain"].split("\n"), [
    "Similarity of layers",
    "layer 1: most like layer 2 (0.5), least like layer 4 (0.25)",
    "layer 2: most like layer 4 (0.75), least like layer 1 (0.5)",
    "layer 4: most like layer 2 (0.75), least like layer 1 (0.25)",
  ]);
});

Deno.test("influenceBars() has a bar for each layer, and names the least", () => {
  const shown = winnow.influenceBars(sample.similarity), { data: [bars] } = specOf(shown);
  assertEquals([bars.x, bars.y, bars.text], [[1, 2, 4], [0.5, 0.125, 0.25], ["0.5", "0.125", "0.25"]]);
  assertMatch(shown["text/plain"], /^Influence of layers: least that of layer 2 \(0\.125\)\nlayer 1: 0\.5\n/);
});

Deno.test("searchConvergence() has the history of each layer, and the optimum as a line", () => {
  const shown = winnow.searchConvergence(sample.candidates, { optimum: sample.candidates }), { data } = specOf(shown);
  assertEquals(data.filter(({ name }) => name !== "").map(({ name, y }) => [name, y]), [["layer 1", [8, 6, 5]], ["layer 2", [0]]]);
  assertEquals(data.filter(({ line }) => line?.dash === "dash").map(({ x, y }) => [x, y]), [[[0, 2], [5, 5]], [[0, 2], [0, 0]]]);
  assertMatch(shown["text/plain"], /layer 1: 8 -> 5 in 2 generations, 5 of 6 sets tried; optimum 5, reached/);
});

Deno.test("receptionTree() has all candidates that were compared, and the path that was chosen", () => {
  const { data: [, compared, path, chosen], layout } = specOf(winnow.receptionTree(sample.plan, sample.candidates));
  assertEquals([compared.x, compared.y], [[1, 1, 2, 2], [1, 2, 1, 2]]);
  assertEquals(compared.hovertext[1], "candidate 2 of layer 1: drops 0, 1");
  assertEquals([path.x, path.y], [[1, 2, null], [2, 1, null]]);
  assertEquals([chosen.x, chosen.y, layout.yaxis.autorange], [[1, 2], [2, 1], "reversed"]);
  assertEquals(compared.text.filter((label: string) => label !== ""), ["−10.0 %"]);
});

Deno.test("singularSpectra() is the error beyond each rank, from 1 to 0", () => {
  const { data } = specOf(winnow.singularSpectra(sample.spectra, sample.ranks));
  assertEquals(data[0].y.map((y: number) => y.toFixed(6)), [1, Math.sqrt(0.5), 0.5, Math.sqrt(1 / 12), 0].map((y) => y.toFixed(6)));
  assertEquals(data[1].y, [1, 0, 0, 0, 0]);
  assertEquals([data[2].x, data[3].x], [[3, 1], [2]], "every expert at its rank");
  assertThrows(
    () => winnow.singularSpectra(sample.spectra, undefined, { layer: 7 }),
    RangeError,
    "of layer 7: there are those of layers 1, 2",
  );
});

Deno.test("routingLoad() is in percent of the tokens, blank where an expert is gone", () => {
  const { data: [map] } = specOf(winnow.routingLoad(sample.before, sample.after));
  assertEquals(map.y, ["1 before", "1 after", "2 before", "2 after"]);
  assertEquals(map.z, [[80, 10, 70, 40], [null, null, 100, 100], [50, 0, 100, 50], [50, null, 100, 50]]);
});

Deno.test("accuracyAgainstSize() marks the Pareto front, and nothing else", () => {
  const shown = winnow.accuracyAgainstSize(sample.points),
    { data } = specOf(shown),
    of = (name: string) => data.find((one) => one.name === name);
  assertEquals([of("others")?.x, of("others")?.y, of("others")?.error_y.array], [[1], [50], [3]]);
  assertEquals([of("dense")?.x, of("dense")?.y, of("genetic")?.y], [[2], [80], [70]]);
  const front = (points: winnow.SizePoint[]) =>
    winnow.accuracyAgainstSize(points)["text/plain"].split("\n").slice(1).filter((line) => line[0] === "*").map((line) =>
      line.slice(2).split(":")[0]
    );
  const point = fc.record({ parameters: fc.integer({ min: 1, max: 9 }), accuracy: fc.integer({ min: 0, max: 9 }).map((n) => n / 10) });
  fc.assert(
    fc.property(fc.array(point, { minLength: 1, maxLength: 8 }), (points) => {
      const named = points.map((p, i) => ({ ...p, name: `${i}` })), marked = new Set(front(named));
      for (const p of named) {
        const beaten = named.some((q) =>
          (q.parameters < p.parameters && q.accuracy >= p.accuracy) || (q.parameters <= p.parameters && q.accuracy > p.accuracy)
        );
        assertEquals(marked.has(p.name), !beaten);
      }
    }),
    { numRuns: 50 },
  );
});

Deno.test("lossCurve() draws every step behind a single curve, and means of 25 otherwise", () => {
  const one = specOf(winnow.lossCurve({ tuned: sample.history })).data, two = specOf(sample.charts["lossCurve()"]()).data;
  assertEquals(one.map(({ opacity }) => opacity), [0.3, undefined]);
  assertEquals(one[0].y, sample.history.map(({ loss }) => loss));
  const mean = sample.history.slice(0, 25).reduce((sum, { loss }) => sum + loss, 0) / 25;
  assertEquals(one[1].y[12], mean);
  assertEquals(two.map(({ name }) => name), ["tuned", "short"]);
  assertEquals(winnow.lossCurve({ a: [] })["text/plain"], "Training loss, nats a token\na: no step yet");
});

Deno.test("decompositionErrors() shows the error that was minimised, and counts what stayed dense", () => {
  const { data } = specOf(winnow.decompositionErrors(sample.decomposition));
  assertEquals(data.map(({ name, x, y }) => [name, x, y]), [["gate", [3], [0.25]], ["up", [3], [0.5]], ["down", [3], [0.125]]]);
  const white = sample.decomposition.map((d) => ({ ...d, relativeOutputError: d.relativeError / 2 }));
  const dense = { ...white[0], expert: 3, rank: null, relativeError: 0, relativeOutputError: 0 };
  const shown = winnow.decompositionErrors([...white, dense]);
  assertEquals(specOf(shown).data[0].y, [0.125]);
  assertMatch(shown["text/plain"], /error of outputs, mean over experts; 1 matrices stayed dense/);
});

Deno.test("retainedVariance() shows what factors lose by kind, and counts ranks for want of tokens and dense linears", () => {
  const shown = winnow.retainedVariance(sample.factorization), { data } = specOf(shown);
  assertEquals(data.filter(({ x }) => x.length > 0).map(({ name, y }) => [name, y]), [["queries and keys", [0.25]], ["gate", [0.125]]]);
  assertMatch(shown["text/plain"], /of a kind; 1 of smaller rank, for want of tokens; 1 stayed dense\nlayer 1: queries and keys 0.25/);
});

Deno.test("ratioSearch() draws the least so far, and what was tried where there is one search", () => {
  const one = specOf(sample.charts["ratioSearch()"]()).data, two = specOf(sample.charts["ratioSearch() of two"]()).data;
  assertEquals(one.map(({ y }) => y), [[4, 2, 3], [4, 2, 2]]);
  assertEquals(two.map(({ name, y }) => [name, y]), [["5×1", [4, 2, 2]], ["random", [4, 2, 2]]]);
});

Deno.test("charts of next to nothing are drawn all the same", async () => {
  const one = { layers: [{ layer: 0, experts: [0], scores: Float64Array.of(0) }] };
  await checkChart(winnow.expertImportance({ ...sample.scores, ...one, unseen: [] }));
  await checkChart(winnow.layerBudgets({ layers: [{ layer: 0, drop: 0 }] }));
  await checkChart(winnow.lossCurve({ a: sample.history.slice(0, 1) }));
  await checkChart(winnow.lossCurve({ a: [{ step: 1, loss: NaN }, { step: 2, loss: Infinity }, { step: 3, loss: 1 }] }));
  await checkChart(winnow.accuracyAgainstSize([{ name: "one", parameters: 5, accuracy: 0.5 }]));
  await checkChart(winnow.routingLoad({ tokens: 1, layers: [{ layer: 0, experts: [0], counts: Uint32Array.of(1) }] }));
  const none = { layers: [{ layer: 0, sets: [{ drop: [], loss: 0 }], evaluated: 1, possible: 1, history: [0] }] };
  for (
    const shown of [
      winnow.lossCurve({ a: [] }),
      winnow.accuracyAgainstSize([]),
      winnow.accuracyAgainstSize([{ name: "unmeasured", parameters: 5, accuracy: null }]),
      winnow.searchConvergence(none),
      winnow.rankMap({ layers: [] }),
      winnow.layerBudgets({ layers: [] }),
      winnow.decompositionErrors([]),
      winnow.retainedVariance([]),
      winnow.ratioSearch({}),
      winnow.receptionTree({ layers: [], blocks: [] }),
    ]
  ) {
    specOf(shown);
    assertMatch(parseSvg(await imageOf(shown)).text, /nothing to show yet/);
  }
});

Deno.test("names from files are text to whoever draws them", async () => {
  const { HOSTILE } = sample;
  const shown = winnow.chart({
    ...{ title: HOSTILE, subtitle: HOSTILE, x: { label: HOSTILE, places: [HOSTILE, "b"] }, y: { label: HOSTILE }, text: HOSTILE },
    marks: [
      { kind: "points", name: HOSTILE, points: [{ x: HOSTILE, y: 1, label: HOSTILE, note: HOSTILE, error: 1 }] },
      { kind: "line", name: `${HOSTILE}2`, points: [{ x: HOSTILE, y: 1 }, { x: "b", y: 2 }] },
    ],
  });
  const { text } = parseSvg(await imageOf(shown));
  assert(text.includes('<script>alert("x")</script>'), "as text");
  const { data, layout } = specOf(shown);
  const strings = [
    layout.title.text,
    layout.xaxis.title.text,
    layout.yaxis.title.text,
    data[0].name,
    data[0].x[0],
    data[0].text[0],
    data[0].hovertext[0],
  ];
  for (const string of strings) assert(!/<(?!$)/.test(string) && string.includes("&lt;script&gt;"), string);
  await checkChart(shown);
  const map = winnow.chart({
    ...{ title: HOSTILE, x: { label: "x", places: [0] }, y: { label: "y", places: [HOSTILE] }, text: "" },
    marks: [{ kind: "cells", name: HOSTILE, cells: [{ x: 0, y: HOSTILE, value: 1, note: HOSTILE }] }],
  });
  await imageOf(map);
  assertEquals(specOf(map).data[0].z, [[1]]);
});

Deno.test("long names under an axis lean, short ones stand, and a logarithmic axis has plain numbers", async () => {
  const drawn = async (names: string[]) => {
    const points = names.map((x, i) => ({ x, y: 0.2 * 10 ** i }));
    const shown = winnow.chart({
      ...{ title: "t", text: "t", x: { label: "model", places: names }, y: { label: "GiB", scale: "log" } },
      marks: [{ kind: "points", points }],
    });
    await checkChart(shown);
    return await imageOf(shown);
  };
  const short = await drawn(["a", "b", "c"]), long = await drawn(Array.from({ length: 9 }, (_, i) => `DeepSeek ${i} P+D`));
  assert(!short.includes("rotate(-25)"), "short names stand");
  assertEquals(long.match(/rotate\(-25\)/g)?.length, 9);
  const height = (svg: string) => Number(svg.match(/height="(\d+)"/)![1]);
  assert(height(long) > height(short), "leaning names have room");
  assertMatch(parseSvg(short).text, /^0\.2$/m);
});
